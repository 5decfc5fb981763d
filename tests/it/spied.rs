//! Runs with the fixture library `spy`: a cache that writes down what it sees.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::latents::LatentsBench;
use crate::support::fixture;

/// A new folder in `folder`, with the spying library alone.
pub(crate) fn spy_folder(folder: &Path) -> PathBuf {
    let plugins = folder.join("plugins");
    fs::create_dir(&plugins).unwrap();
    let library = fixture("spy");
    fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
    plugins
}

/// A bench whose runs can have the fixture's strategies.
pub(crate) fn bench(flags: &[&str]) -> LatentsBench {
    let bench = LatentsBench::new(&[]);
    let folder = spy_folder(bench.folder());
    bench.with_flags(&[&["--plugin_dir", folder.to_str().unwrap()], flags].concat())
}

/// Flags of the spying cache, with a log.
pub(crate) fn spying(bench: &LatentsBench, options: &[&str]) -> Vec<String> {
    let log = bench.folder().join("log.jsonl");
    let _ = fs::remove_file(&log);
    let log = bench.document("log", &json!({ "path": log }));
    let mut flags = vec!["--cache".to_string(), "spy".into()];
    for option in options.iter().map(|o| o.to_string()).chain([format!("log={log}")]) {
        flags.extend(["--cache-option".into(), option]);
    }
    flags
}

/// What the cache wrote.
pub(crate) fn log(bench: &LatentsBench) -> Vec<Value> {
    let text = fs::read_to_string(bench.folder().join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn events<'l>(log: &'l [Value], event: &str) -> Vec<&'l Value> {
    log.iter().filter(|line| line["event"] == event).collect()
}

pub(crate) fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}
