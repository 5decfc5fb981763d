//! Walls that the compiler does not watch.

use std::fs;
use std::path::{Path, PathBuf};

use wan_host::registry::Kind;

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
    for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/host/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in &names {
            assert!(!text.contains(name.as_str()), "{name} in {}", file.display());
        }
    }
}
