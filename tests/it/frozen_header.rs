//! The header of the door in C, as it was when it was frozen (`tests/snapshots/epoch1`).
//!
//! **If this test fails, do not update the snapshot: undo the change.** A struct that begins with its
//! size may get a member at its end; nothing else may change, but for comments. Before the first
//! release, and only then, may `WAN_UPDATE_LAYOUTS=1` write the snapshot anew.

use std::path::PathBuf;

use wan_plugin_api::c::HEADER;
use wan_tests::checkout::checkout;

use crate::c_door::built_with;
use crate::support::{demo_model_with, latent_bits, registry, short_request};

/// Structs that stand in lists, or lie in another struct. They never grow.
const NEVER_GROW: [&str; 4] = ["wan_level", "wan_term", "wan_signal", "wan_form"];

fn folder() -> PathBuf {
    checkout().join("tests/snapshots/epoch1")
}

/// The code without its comments, a declaration a line.
fn declarations(header: &str) -> Vec<String> {
    let (mut code, mut rest) = (String::new(), header);
    while let Some((before, after)) = rest.split_once("/*") {
        code += before;
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    code += rest;
    let lines = code.split_inclusive([';', '{', '}']);
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The first declaration of `frozen` that `today` has not got in its place. Where a struct ends in
/// `frozen`, `today` may go on.
fn lost(frozen: &[String], today: &[String]) -> Option<String> {
    let mut today = today.iter();
    let mut inside = "";
    for line in frozen {
        if line.ends_with('{') {
            inside = line;
        }
        let may_grow = line.ends_with('}')
            && inside.contains("struct")
            && !NEVER_GROW.iter().any(|name| inside.contains(&format!("{name} {{")));
        let found = match may_grow {
            true => today.find(|found| found.ends_with('}')),
            false => today.next(),
        };
        if found != Some(line) {
            return Some(format!("`{line}`, today {found:?}"));
        }
    }
    None
}

#[test]
fn nothing_of_the_header_is_lost_or_moved() {
    let path = folder().join("wan_plugin.h");
    if std::env::var_os("WAN_UPDATE_LAYOUTS").is_some() {
        std::fs::write(&path, HEADER).unwrap();
    }
    let frozen = declarations(&std::fs::read_to_string(path).unwrap());
    let today = declarations(HEADER);
    if let Some(lost) = lost(&frozen, &today) {
        panic!("the frozen header has changed: read the head of {} and undo it: {lost}", file!());
    }
}

#[test]
fn a_member_at_the_end_is_growth_and_anywhere_else_a_break() {
    let grown = |from: &str, to: &str| {
        let today = HEADER.replace(from, to);
        assert_ne!(today, HEADER);
        lost(&declarations(HEADER), &declarations(&today)).is_some()
    };
    let end = "double sigma_next; /* after it */\n";
    assert!(grown(end, &format!("{end}    double more;\n")));
    let end = "    uint32_t measured_count; /* as many as were written */\n";
    assert!(!grown(end, &format!("{end}    double more;\n")));
    let end = "    uint32_t place; /* WAN_DEVICE or WAN_MAIN_MEMORY */\n";
    assert!(grown(end, &format!("{end}    double more;\n")));
    assert!(grown(
        "    uint32_t keep; /* 1: hand",
        "    uint32_t more;\n    uint32_t keep; /* 1: hand"
    ));
    assert!(grown("uint32_t steps; /* of each frame */", "uint64_t steps; /* of each frame */"));
    assert!(grown("WAN_FAILED = 4,", "WAN_FAILED = 6,"));
}

/// A later header: every struct that may grow has members more at its end.
fn later() -> String {
    let mut parts = HEADER.split_inclusive("\n}").map(String::from).collect::<Vec<_>>();
    let mut grown = 0;
    for part in &mut parts {
        let (_, declared) = part.rsplit_once("struct ").unwrap_or_default();
        let name = declared.split(' ').next().unwrap_or_default();
        let begins_with_size = declared.contains("{\n    uint32_t size;");
        if begins_with_size && name != "wan_manifest" && !NEVER_GROW.contains(&name) {
            let end = part.len() - "\n}".len();
            part.insert_str(end, "\n    uint64_t later[4];");
            grown += 1;
        }
    }
    assert_eq!(grown, 21);
    parts.concat()
}

/// A plugin that was built against a later header: its tables are longer than the host knows, and it
/// counts on members that this host's structs have not got.
#[test]
fn a_plugin_of_a_later_header_generates() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wan_plugin.h"), later()).unwrap();
    let today = checkout().join("crates/plugin-api/include");
    let strategies = [("euler.c", "c-euler", ""), ("ralston.c", "c-ralston", "")];
    for (file, sampler, cache) in strategies.into_iter().chain([("steady.c", "unipc", "c-steady")])
    {
        let source = checkout().join("tests/fixtures/c").join(file);
        let bits = |include: &std::path::Path| {
            let library = built_with(&source, include, &["-Wno-missing-field-initializers"]);
            let mut registry = registry();
            registry.add_file(&library.path()).unwrap();
            let cache = if cache.is_empty() { "none" } else { cache };
            latent_bits(&demo_model_with(registry), &short_request().sampler(sampler).cache(cache))
        };
        assert!(bits(folder.path()) == bits(&today), "{file}");
    }
}

/// A plugin that was built against the frozen header.
#[test]
fn a_plugin_of_the_frozen_header_generates() {
    let source = checkout().join("tests/fixtures/c/euler.c");
    let old = built_with(&source, &folder(), &[]);
    let new = built_with(&source, &checkout().join("crates/plugin-api/include"), &[]);
    let bits = |library: PathBuf| {
        let mut registry = registry();
        registry.add_file(&library).unwrap();
        latent_bits(&demo_model_with(registry), &short_request().sampler("c-euler"))
    };
    assert!(bits(old.path()) == bits(new.path()));
}
