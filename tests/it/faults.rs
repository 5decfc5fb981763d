//! The file system fails: every write, flush, rename and read in turn. Nothing partial lies under a
//! final name, nothing temporary is left, and what was computed is kept and named.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use wan_host::Sidecar;

use crate::demo::play;
use crate::support::{error_text, fixture, names_in, program};

const SHORT: [&str; 8] =
    ["--frame_num", "5", "--sample_steps", "1", "--cache", "none", "--progress", "json"];

/// Runs a command in which the call of this number of a kind fails; gives whether there was one.
fn fails_with(fault: &str, command: &[&str]) -> bool {
    let (folder, marks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mark = marks.path().join("mark");
    let mut run = Command::new(program());
    run.args(command).args(SHORT).current_dir(folder.path());
    run.env("LD_PRELOAD", fixture("faults")).env("WAN_FAULT", fault).env("WAN_FAULT_MARK", &mark);
    let output = run.output().unwrap();
    let said = error_text(&output);
    let code = output.status.code();
    assert!(!said.contains("panicked"), "{fault}: {said}");
    assert!(matches!(code, Some(0 | 2..=4)), "{fault}: {code:?}: {said}");
    let mut names = names_in(folder.path());
    if names.remove("out.run") {
        // What is done can be gone on with, where it had not all been written already.
        let resumed = Command::new(program())
            .args(["resume", "out.run", "--progress", "quiet"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(resumed.status.success(), "{fault}: {}: {said}", error_text(&resumed));
        names = names_in(folder.path());
        assert!(names.contains("out.mp4"), "{fault}: {names:?}");
    }
    for name in &names {
        let path = folder.path().join(name);
        assert!(!name.starts_with('.'), "{fault}: {name} is left: {said}");
        check_whole(&path, fault);
    }
    if !mark.exists() {
        assert_eq!(code, Some(0), "{fault}: {said}");
        return false;
    }
    if code == Some(0) {
        // A figure of the system, or a library that was left out or read another way.
        assert!(names.contains("out.mp4") || names.contains("out.safetensors"), "{fault}: {said}");
        return true;
    }
    assert!(said.lines().any(|line| line.starts_with("wan: ")), "{fault}: {said}");
    // Sampling was over.
    let sampled = said.contains("\"phase\":\"decode\"");
    assert!(!sampled || names.contains("out.mp4"), "{fault}: {said}");
    true
}

/// Checks that a file which has its final name is whole.
pub(crate) fn check_whole(path: &Path, fault: &str) {
    let name = path.display().to_string();
    if name.ends_with(".mp4") {
        assert_eq!(play(path).frames, 5, "{fault}");
        assert!(path.with_extension("json").exists(), "{fault}: a video without its sidecar");
    } else if name.ends_with(".json") {
        serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    } else if name.ends_with(".latents.safetensors") {
        Sidecar::read_latents(path).unwrap();
    } else if name.ends_with(".png") {
        image::open(path).unwrap();
    } else {
        safetensors::SafeTensors::deserialize(&fs::read(path).unwrap()).unwrap();
    }
}

/// Lets one call after the other fail, `step` apart, until one is not reached any more.
fn fail_in_turn(kind: &str, step: usize, command: &[&str]) -> usize {
    let mut failed = 0;
    for number in (1..).step_by(step) {
        if !fails_with(&format!("{kind}:{number}"), command) {
            break;
        }
        failed += 1;
    }
    failed
}

const GENERATE: [&str; 6] =
    ["generate", "--save_file", "out.mp4", "--keep_latents", "--contact_sheet", "sheet.png"];
const RECORD: [&str; 4] = ["cache", "record", "--out", "out.safetensors"];

#[test]
fn whatever_write_flush_or_rename_fails_nothing_is_lost_or_partial() {
    for kind in ["write", "fsync", "rename"] {
        let failed = fail_in_turn(kind, 1, &GENERATE);
        // Latents, sidecar, video, sheet.
        assert!(failed >= 4, "{kind}: {failed} calls");
    }
    assert!(fail_in_turn("rename", 1, &RECORD) >= 1);
    assert!(fail_in_turn("write", 5, &RECORD) >= 2);
}

#[test]
fn a_read_that_fails_is_said() {
    assert!(fail_in_turn("read", 11, &GENERATE) >= 5);
}

#[test]
#[ignore = "takes minutes; run with --run-ignored"]
fn whatever_read_fails_is_said() {
    let failed = fail_in_turn("read", 1, &GENERATE) + fail_in_turn("write", 1, &RECORD);
    assert!(failed > 100, "{failed}");
}

#[test]
fn a_stream_that_is_closed_or_full_ends_no_run() {
    for redirection in ["2>&-", ">&-", ">&- 2>&-", "2>/dev/full", ">/dev/full", ">/dev/full 2>&1"] {
        for progress in ["auto", "json"] {
            let folder = tempfile::tempdir().unwrap();
            let script = format!("exec \"$@\" {redirection}");
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]).arg(program()).args(GENERATE).args(&SHORT[..6]);
            command.args(["--progress", progress]).current_dir(folder.path());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let code = command.status().unwrap().code();
            assert_eq!(code, Some(0), "{redirection}, {progress}");
            assert_eq!(play(&folder.path().join("out.mp4")).frames, 5);
        }
    }
    // A reader that goes away in the middle of the run.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.args(GENERATE).args(SHORT).current_dir(folder.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(play(&folder.path().join("out.mp4")).frames, 5);
}
