//! Walls around what comes from outside: who opens files, and how numbers are converted.

use std::fs;

use wan_tests::checkout::checkout;

use crate::walls::{code, rust_files};

/// The crates whose numbers come from files and plugins.
const AT_THE_BORDER: [&str; 7] = [
    "border/src/lib.rs",
    "cache-lab/src/lib.rs",
    "cli/src/main.rs",
    "host/src/lib.rs",
    "media/src/lib.rs",
    "plugin-api/src/lib.rs",
    "wan-model/src/lib.rs",
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
const MAY_OPEN: [(&str, &str); 9] = [
    ("crates/cli/src/checkout.rs", "the note beside the program"),
    ("crates/cli/src/stop.rs", "the system's figures"),
    ("crates/cli/src/wall/child.rs", "standard input"),
    ("crates/cli/src/wall/elsewhere.rs", "standard input"),
    ("crates/host/src/output/sidecar.rs", "the system's figures"),
    ("crates/host/src/plugins/loader.rs", "a library, which is hashed"),
    ("crates/plugin-check/src/patience.rs", "the system's figures"),
    ("crates/plugin-check/src/process.rs", "the answer of its own process"),
    ("crates/plugin-check/src/surroundings.rs", "the system's figures"),
];

#[test]
fn files_are_opened_in_one_place() {
    let (mut files, mut exceptions) = (0, 0);
    for krate in ["host", "cli", "media", "cache-lab", "plugin-check", "wan-model"] {
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
