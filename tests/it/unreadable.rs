//! What is there and cannot be read is never taken for what is not there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use wan_tests::tiny_model::TinyModel;

use crate::command_line::check_refused;
use crate::support::{error_text, fixture, program};
use crate::tiny_bench::Bench;

/// `wan plugins list` of a user whose settings folder is `settings`.
fn list(settings: &Path) -> Output {
    let library = fixture("extension");
    let mut command = Command::new(program());
    command.args(["plugins", "list", "--plugin_dir"]).arg(library.parent().unwrap());
    command.env("XDG_CONFIG_HOME", settings).output().unwrap()
}

#[test]
fn a_list_of_libraries_that_cannot_be_read_stops_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("wan/plugins.allow");
    fs::create_dir_all(&place).unwrap();
    let check = |what: &str| {
        let output = list(folder.path());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{what}: {said}");
        assert!(said.contains("plugins.allow"), "{what}: {said}");
        assert!(output.stdout.is_empty(), "{what}");
    };
    check("a folder");
    fs::remove_dir(&place).unwrap();
    fs::write(&place, b"\xff\xfe").unwrap();
    check("no text");
    fs::remove_file(&place).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/nowhere/at/all", &place).unwrap();
        check("a link that leads nowhere");
    }
}

#[test]
fn a_calibration_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.json");
    let option = format!("calibration={}", file.display());
    let flags = ["--cache", "teacache", "--cache_option", &option];
    check_refused(&flags, "cut.json");
    for text in ["{\"schema\": 1, \"model\": {\"dim\"", "", "null", "[1, 2]", "3"] {
        fs::write(&file, text).unwrap();
        check_refused(&flags, "cut.json does not hold a JSON object");
    }
}

#[test]
fn a_document_of_a_model_folder_that_cannot_be_read_is_named() {
    let bench = Bench::new(TinyModel::t2v(), &["--cache", "none"]);
    for name in ["model_index.json", "scheduler/scheduler_config.json", "wan.toml"] {
        let file = bench.root().join(name);
        let whole = fs::read(&file).ok();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        for text in [&b"{\"flow_shift\": 3"[..], b"\xff\xfe"] {
            fs::write(&file, text).unwrap();
            bench.unusable(&[], name);
        }
        match whole {
            Some(whole) => fs::write(&file, whole).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
    }
}
