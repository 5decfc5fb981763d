//! The shape of the library: what it shows, and which of its folders know which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wan_tests::checkout::checkout;

use crate::support::{demo_folder, error_text, plugin_folder, profile_folder};
use crate::walls::rust_files;

/// Names in `pub use` lines.
fn names_shown(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in source.split("pub use ").skip(1) {
        let path = line.split(';').next().unwrap();
        let last = path.rsplit("::").next().unwrap_or(path);
        let list = path.split_once('{').map_or(last, |(_, list)| list.trim_end_matches('}'));
        let each = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.extend(each.map(String::from));
    }
    names
}

#[test]
fn the_library_shows_few_names_and_a_snapshot_has_them() {
    let source = |file: &str| fs::read_to_string(checkout().join("crates/host/src").join(file));
    let [root, parts] = ["lib.rs", "parts.rs"].map(|file| names_shown(&source(file).unwrap()));
    assert!(parts.len() <= 20, "{} names to look inside: {parts:?}", parts.len());
    let modules = source("lib.rs").unwrap();
    let public = modules.lines().filter(|line| line.starts_with("pub mod"));
    assert_eq!(public.collect::<Vec<_>>(), ["pub mod parts;"]);
    let list =
        |names: &BTreeSet<String>| names.iter().map(|n| format!("{n}\n")).collect::<String>();
    let shown = format!("# wan_host\n{}\n# wan_host::parts\n{}", list(&root), list(&parts));
    let path = checkout().join("tests/snapshots/library_names.txt");
    let snapshot = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, snapshot, "{}: what users build on has changed", path.display());
}

/// Folders and single files of the library, each knowing only those before it.
const ORDER: [&str; 15] = [
    "error",
    "cancel",
    "latents",
    "ledger",
    "device",
    "plugins",
    "request",
    "checkpoint",
    "inputs",
    "denoise",
    "run",
    "output",
    "model",
    "parts",
    "lib",
];

/// What a source names of its own crate, tests aside: `crate::NAME::NAME`.
fn own_names(file: &Path) -> BTreeSet<Vec<String>> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = code.split("crate::").skip(1);
    let paths = paths.map(|rest| rest.split(|c| !is_part(c)).next().unwrap());
    paths.map(|path| path.split("::").map(String::from).collect()).collect()
}

/// Files of the library by module path: `run::spec`.
fn files() -> BTreeMap<String, PathBuf> {
    let root = checkout().join("crates/host/src");
    let name = |file: &Path| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let parts: Vec<_> = path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        parts.join("::").trim_end_matches("::mod").to_string()
    };
    let files = rust_files(&root).into_iter().map(|file| (name(&file), file));
    files.filter(|(name, _)| !name.ends_with("tests")).collect()
}

#[test]
fn folders_of_the_library_know_those_before_them_alone() {
    let place = |name: &str| {
        let folder = name.split("::").next().unwrap();
        let place = ORDER.iter().position(|known| *known == folder);
        place.unwrap_or_else(|| panic!("{name} has no place in the order"))
    };
    let mut arrows = BTreeSet::new();
    for (name, file) in files() {
        for path in own_names(&file) {
            // `crate::Name` is what the door shows: only documentation says so.
            let target = &path[0];
            assert!(
                place(target) <= place(&name),
                "{name} knows crate::{}, which comes after it",
                path.join("::")
            );
            arrows.insert((name.split("::").next().unwrap().to_string(), target.clone()));
        }
    }
    assert!(arrows.len() > 30, "{arrows:?}");
}

#[test]
fn no_two_files_of_the_library_know_each_other() {
    let files = files();
    let mut knows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, file) in &files {
        let targets = own_names(file).into_iter().filter_map(|path| {
            let whole = (1..=path.len()).rev().map(|len| path[..len].join("::"));
            let found = whole.filter_map(|path| files.get_key_value(&path)).next();
            found.map(|(target, _)| target.as_str())
        });
        let targets = targets.filter(|target| target != name);
        knows.insert(name, targets.collect());
    }
    // What knows nothing that is left is taken away; what remains goes round in circles.
    loop {
        let free: Vec<&str> =
            knows.iter().filter(|(_, known)| known.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            knows.remove(name);
            knows.values_mut().for_each(|known| known.retain(|other| *other != name));
        }
    }
    assert!(knows.is_empty(), "these files know each other in a circle: {knows:?}");
}

/// Runs an example of the library, which must succeed; gives what it printed.
fn example(name: &str, arguments: &[&Path]) -> String {
    let program = profile_folder().join("examples").join(name);
    assert!(program.exists(), "{} is missing: run `cargo xtask plugins`", program.display());
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", error_text(&output));
    assert_eq!(error_text(&output), "", "{name}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let (model, video) = (demo_folder(), folder.path().join("moving.mp4"));
    let said = example("embed", &[&model, &plugin_folder(), &video]);
    assert_eq!(said.matches("brightness").count(), 17, "{said}");
    assert!(video.exists() && video.with_extension("json").exists());
    let said = example("progress_and_cancel", &[&model]);
    assert!(said.contains("stopped after 4 rounds; going on"), "{said}");
    assert_eq!(said.matches("frames decoded").count(), 3, "{said}");
    let said = example("two_runs", &[&model]);
    assert_eq!(said.matches("latents ").count(), 2, "{said}");
}
