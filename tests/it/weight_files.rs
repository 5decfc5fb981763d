//! The project's cases of weight files, through the program.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use wan_tests::checkout::checkout;
use wan_tests::weight_cases::{OWN, Options, run};

use crate::support::program;

#[test]
fn weight_files_load_or_are_refused_with_the_right_words() {
    let options = Options {
        program: program(),
        folder: checkout().join(OWN),
        tokenizer: None,
        only: String::new(),
    };
    let mut said = Vec::new();
    let totals = run(&options, &mut |line| said.push(line)).unwrap();
    let failed: Vec<&String> = said.iter().filter(|line| line.contains("FAILED")).collect();
    assert_eq!((totals.failed, failed), (0, Vec::new()));
    // The tokenizer's case alone needs a file that the project does not carry.
    assert_eq!((totals.skipped, totals.passed + 1), (1, said.len()));
}

/// A folder that no index names would never be run.
#[test]
fn every_case_is_in_the_index() {
    let folder = checkout().join(OWN);
    let index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    let named = index["cases"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let named: BTreeSet<String> = named.map(String::from).collect();
    let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let there: BTreeSet<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(there, named);
    assert!(there.len() >= 50, "{}", there.len());
}

/// A case that nothing can satisfy fails: the runner sees what it is to see.
#[test]
fn a_case_that_is_not_satisfied_fails() {
    let folder = tempfile::tempdir().unwrap();
    let own = checkout().join(OWN).join("fp8-e5m2-plain");
    let case: Value = serde_json::from_slice(&fs::read(own.join("case.json")).unwrap()).unwrap();
    let changes: [(&str, Value); 5] = [
        ("must", "refused".into()),
        ("warning_has", serde_json::json!([["a word that is never said"]])),
        ("expected", "io.safetensors".into()),
        ("limits", serde_json::json!({ "seconds": 30, "memory_mb": 1 })),
        ("every_other_tensor_as_in", "other.safetensors".into()),
    ];
    let mut names = Vec::new();
    for (member, value) in changes {
        let to = folder.path().join(member);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(&own).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let forward = checkout().join(OWN).join("fp8-scaled");
        fs::copy(forward.join("io.safetensors"), to.join("io.safetensors")).unwrap();
        fs::copy(forward.join("expected.safetensors"), to.join("other.safetensors")).unwrap();
        let mut case = case.clone();
        case[member] = value;
        fs::write(to.join("case.json"), case.to_string()).unwrap();
        names.push(member);
    }
    let index = serde_json::json!({ "cases": names }).to_string();
    fs::write(folder.path().join("index.json"), index).unwrap();
    let folder = folder.path().to_path_buf();
    let options = Options { program: program(), folder, tokenizer: None, only: String::new() };
    let mut said = Vec::new();
    let totals = run(&options, &mut |line| said.push(line)).unwrap();
    assert_eq!((totals.failed, totals.passed), (names.len(), 0), "{said:#?}");
}
