//! Walls around what comes from outside: who opens files, and how numbers are converted.

use std::fs;

use wan_tests::checkout::checkout;

use crate::walls::{code, rust_files};

/// The crates whose numbers come from files and plugins.
const AT_THE_BORDER: [&str; 9] = [
    "border/src/lib.rs",
    "cache-lab/src/lib.rs",
    "cli/src/main.rs",
    "host/src/lib.rs",
    "media/src/lib.rs",
    "plugin-api/src/lib.rs",
    "run-store/src/lib.rs",
    "wan-model/src/lib.rs",
    "weight-files/src/lib.rs",
];

#[test]
fn numbers_are_converted_with_checks_where_they_come_from_outside() {
    for file in AT_THE_BORDER {
        let text = fs::read_to_string(checkout().join("crates").join(file)).unwrap();
        for lint in ["cast_possible_truncation", "cast_possible_wrap", "cast_sign_loss"] {
            assert!(
                text.contains(&format!("    clippy::{lint},\n")),
                "{file} does not warn: {lint}"
            );
        }
        assert!(text.contains("not(test),\n    warn(\n"), "{file}");
    }
}

/// What opens a file, beside `wan_border::files`.
const OPENS: [&str; 7] = [
    "fs::read(",
    "read_to_string(",
    " File::open(",
    "(File::open(",
    "fs::File::open(",
    "ImageReader::open",
    " Tokenizer::from_file",
];

/// Who opens a file that nobody gives, and so need not be held to its kind and length.
const MAY_OPEN: [(&str, &str); 11] = [
    ("crates/cli/src/checkout.rs", "the note beside the program"),
    ("crates/cli/src/stop.rs", "the system's figures"),
    ("crates/cli/src/wall/child.rs", "standard input"),
    ("crates/cli/src/wall/elsewhere.rs", "standard input"),
    ("crates/host/src/device/room.rs", "the system's figures"),
    ("crates/host/src/kept/recipe.rs", "the program's own file"),
    ("crates/host/src/plugins/loader.rs", "a library, which is hashed"),
    ("crates/host/src/plugins/own_memory.rs", "the system's figures"),
    ("crates/plugin-check/src/patience.rs", "the system's figures"),
    ("crates/plugin-check/src/process.rs", "the answer of its own process"),
    ("crates/plugin-check/src/surroundings.rs", "the system's figures"),
];

#[test]
fn files_are_opened_in_one_place() {
    let (mut files, mut exceptions) = (0, 0);
    for krate in ["host", "cli", "media", "cache-lab", "plugin-check", "wan-model", "weight-files"]
    {
        let folder = checkout().join("crates").join(krate).join("src");
        for file in rust_files(&folder).iter().filter(|file| !file.ends_with("tests.rs")) {
            files += 1;
            let code = code(&fs::read_to_string(file).unwrap());
            let opens = OPENS.iter().find(|words| code.contains(**words));
            let may = MAY_OPEN.iter().any(|(place, _)| file.ends_with(place));
            exceptions += usize::from(may && opens.is_some());
            assert!(may || opens.is_none(), "{}: {opens:?}", file.display());
        }
    }
    assert!(files > 150, "{files}");
    assert_eq!(exceptions, MAY_OPEN.len(), "an exception that nothing needs");
}

/// What reads a file, lists a folder or parses text of one.
const READS: [&str; 10] = [
    "fs::read",
    "read_to_string",
    "read_dir",
    "read_link",
    "|entry|",
    "entries.",
    "from_str",
    "from_slice",
    "from_reader",
    "File::open",
];

/// What makes nothing of a failure.
const MAKES_NOTHING: [&str; 4] = [".ok()", "unwrap_or_default()", "unwrap_or(", "flatten()"];

/// Where a failure to read is nothing: the system's own figures, which not every system has; the
/// answer of a process that may have crashed; and what the program lies in.
const MAY_MAKE_NOTHING: [&str; 5] = [
    "crates/host/src/device/room.rs",
    "crates/host/src/plugins/own_memory.rs",
    "crates/plugin-check/src/patience.rs",
    "crates/plugin-check/src/process.rs",
    "crates/cli/src/checkout.rs",
];

/// Statements that take what cannot be read for what is not there.
fn takes_failure_for_absence(code: &str) -> Vec<String> {
    let statements = code.split([';', '{', '}']);
    let has = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
    let found = statements.filter(|text| has(text, &READS) && has(text, &MAKES_NOTHING));
    found.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_failure_to_read_is_no_absence() {
    let mut files = 0;
    for krate in ["host", "cli", "media", "cache-lab", "plugin-check", "wan-model"] {
        let folder = checkout().join("crates").join(krate).join("src");
        for file in rust_files(&folder) {
            if MAY_MAKE_NOTHING.iter().any(|place| file.ends_with(place)) {
                continue;
            }
            files += 1;
            let found = takes_failure_for_absence(&code(&fs::read_to_string(&file).unwrap()));
            assert!(found.is_empty(), "{}: {found:?}", file.display());
        }
    }
    assert!(files > 150, "{files}");
}

#[test]
fn a_failure_that_is_made_nothing_is_seen() {
    for line in [
        "let text = fs::read_to_string(path).unwrap_or_default();",
        "entries.filter_map(|entry| entry.ok().map(|e| e.path()))",
        "let list: List = serde_json::from_str(&text)\n    .ok()?;",
    ] {
        assert_eq!(takes_failure_for_absence(line).len(), 1, "{line}");
    }
    assert!(takes_failure_for_absence("let text = fs::read_to_string(path)?;").is_empty());
}
