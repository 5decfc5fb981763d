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
const ORDER: [&str; 21] = [
    "error",
    "optional_file",
    "path_text",
    "user_folders",
    "tensor_bytes",
    "cancel",
    "latents",
    "numbers",
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
    "kept",
    "parts",
    "lib",
];

/// A source without its comments and its own tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The paths that a use tree or a path begins with: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<Vec<String>> {
    if let Some(list) = tree.strip_prefix('{') {
        let mut depth = 0;
        let mut is_end = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth < 0
        };
        let end = list.find(&mut is_end).unwrap_or(list.len());
        let mut depth = 0;
        let trees = list[..end].split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        return trees.flat_map(|tree| paths(tree.trim())).collect();
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if name.is_empty() {
        return Vec::new();
    }
    let longer = rest.strip_prefix("::").map(paths).unwrap_or_default();
    let longer = if longer.is_empty() { vec![Vec::new()] } else { longer };
    longer.into_iter().map(|path| [vec![name.to_string()], path].concat()).collect()
}

/// What module `name` names of its own crate, by paths that begin with `crate` or `super`.
fn own_names(name: &str, file: &Path) -> BTreeSet<Vec<String>> {
    let code = code(file);
    let of_crate = code.split("crate::").skip(1).flat_map(paths);
    let mut names: BTreeSet<Vec<String>> = of_crate.collect();
    for (at, _) in code.match_indices("super::") {
        let before = code[..at].trim_end_matches("super::").len();
        let levels = 1 + (at - before) / "super::".len();
        let modules: Vec<String> = name.split("::").map(String::from).collect();
        let above = modules[..modules.len().saturating_sub(levels)].to_vec();
        let below = paths(&code[at + "super::".len()..]).into_iter();
        // A name of the file itself, in a module that is written inside it, is no arrow.
        let is_own = |path: &[String]| above.is_empty() && path[0].starts_with(char::is_uppercase);
        let below = below.filter(|path| path[0] != "super" && !is_own(path));
        names.extend(below.map(|path| [above.clone(), path].concat()));
    }
    names
}

/// Files of a crate by module path: `run::spec`.
fn files(crate_folder: &str) -> BTreeMap<String, PathBuf> {
    let root = checkout().join(crate_folder).join("src");
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
    for (name, file) in files("crates/host") {
        for path in own_names(&name, &file) {
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

/// Modules of a crate that know each other in a circle.
fn circle(crate_folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let files = files(crate_folder);
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in &files {
        let targets = own_names(name, file).into_iter().filter_map(|path| {
            let mut whole = (1..=path.len()).rev().map(|len| path[..len].join("::"));
            whole.find(|path| files.contains_key(path))
        });
        knows.insert(name.clone(), targets.filter(|target| target != name).collect());
    }
    // What knows nothing that is left is taken away; what remains goes round in circles.
    loop {
        let known = |known: &BTreeSet<String>| known.iter().any(|name| knows.contains_key(name));
        let free: Vec<String> =
            knows.iter().filter(|(_, k)| !known(k)).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return knows;
        }
        free.iter().for_each(|name| drop(knows.remove(name)));
    }
}

#[test]
fn no_two_files_of_a_crate_know_each_other() {
    let folders = fs::read_dir(checkout().join("crates")).unwrap();
    let folders = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap());
    let mut folders: Vec<String> = folders.map(|name| format!("crates/{name}")).collect();
    assert!(folders.len() > 9, "{folders:?}");
    folders.push("xtask".into());
    for folder in folders {
        let circle = circle(&folder);
        assert!(circle.is_empty(), "files of {folder} know each other in a circle: {circle:?}");
    }
}

#[test]
fn every_path_of_a_use_tree_is_seen() {
    let seen = |tree: &str| -> Vec<String> { paths(tree).iter().map(|p| p.join("::")).collect() };
    assert_eq!(seen("a::b;"), ["a::b"]);
    assert_eq!(seen("{a, b::{c, d::e}, f};"), ["a", "b::c", "b::d::e", "f"]);
    assert_eq!(seen("a::{self, B}; more"), ["a::self", "a::B"]);
    assert_eq!(seen("a::*;"), ["a"]);
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
