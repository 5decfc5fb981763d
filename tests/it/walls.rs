//! Walls that the compiler does not watch.

use std::fs;
use std::path::{Path, PathBuf};

use wan_host::registry::Kind;
use wan_tests::checkout::checkout;

use crate::support::registry;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(rust_files(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "rs"));
    files
}

#[test]
fn the_host_knows_no_strategy_by_name() {
    let registry = registry();
    let names: Vec<String> = [Kind::Sampler, Kind::Cache]
        .into_iter()
        .flat_map(|kind| registry.strategies(kind))
        .map(|strategy| format!("\"{}\"", strategy.id))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for file in rust_files(&checkout().join("crates/host/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in &names {
            assert!(!text.contains(name.as_str()), "{name} in {}", file.display());
        }
    }
}

/// What no source of ours may say, where it may all the same, and why not.
const NEVER: [(&str, &[&str], &str); 1] = [
    (
        "env!(\"CARGO_MANIFEST_DIR\")",
        &[],
        "is where something was compiled: another checkout, where a target folder was copied",
    ),
];

/// All sources of ours but this file, which names what it looks for.
fn our_sources() -> Vec<(PathBuf, String)> {
    let root = checkout();
    let folders = ["crates", "plugins", "tests", "xtask"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| rust_files(folder));
    let files = files.filter(|file| !file.ends_with("it/walls.rs"));
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn nothing_takes_the_place_of_its_compilation_for_its_own() {
    let sources = our_sources();
    assert!(sources.len() > 200, "{}", sources.len());
    for (file, text) in &sources {
        for (words, places, why) in NEVER {
            let may = places.iter().any(|place| file.ends_with(place));
            assert!(may || !text.contains(words), "{}: {words} {why}", file.display());
        }
    }
}
