//! Strategies in C with one fault each: what `wan generate`, `wan plan` and `wan plugins check` say.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::c_door::{Built, c_fixture, with_fault};
use crate::support::{done, error_text, names_in, program, wan};

/// Runs a command on the demo model with the strategy of a library, in an empty folder; gives the exit
/// code and what is said.
fn told(built: &Built, command: &str, strategy: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(program());
    run.current_dir(folder.path()).args([command, "--progress", "quiet"]);
    run.args(["--frame_num", "5", "--sample_steps", "2", "--size", "64*64"]);
    run.args(["--plugin_dir", built.folder().to_str().unwrap()]).args(strategy);
    if command == "generate" {
        run.args(["--save_file", "o.mp4"]);
    }
    let output = run.output().unwrap();
    let code = output.status.code();
    let left = names_in(folder.path());
    assert!(code == Some(0) || !left.contains("o.mp4"), "{left:?}");
    (code, error_text(&output))
}

/// Checks that each fault ends with this code, a line that says this, and the strategy's id.
fn end_so(file: &str, strategy: &[&str], faults: &[(&str, i32, &str)]) {
    let mut wrong = Vec::new();
    for (fault, code, expected) in faults {
        let built = with_fault(file, fault);
        let (ended, said) = told(&built, "generate", strategy);
        let last = said.lines().last().unwrap_or_default();
        let is_named = [strategy[1], &file.replace(".c", ".so")].iter().any(|n| last.contains(n));
        let is_named = *code != 5 || is_named;
        if ended != Some(*code)
            || !last.contains(expected)
            || !is_named
            || said.contains("panicked")
        {
            wrong.push(format!("{fault}: {ended:?}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_sampler_in_c_that_breaks_its_contract_is_named() {
    end_so(
        "bad.c",
        &["--sampler", "bad", "--cache", "none"],
        &[
            ("-DBAD_FOREVER", 5, "each round has one at least"),
            ("-DBAD_FOREVER_COUNTED", 5, "more than 65536 rounds came over the window at frame 0"),
            ("-DBAD_PART", 5, "round 0: 0 rounds"),
            ("-DBAD_NO_ROUNDS", 5, "leaves frame 0 at sigma 1"),
            ("-DBAD_RISE", 5, "frame 0 has impossible levels"),
            ("-DBAD_LEVEL", 5, "frame 0 has impossible levels"),
            ("-DBAD_TIMESTEP", 5, "frame 0 has impossible levels"),
            ("-DBAD_OUTSIDE", 5, "frame 1000 at place 0"),
            ("-DBAD_GAP", 5, "frame 2 at place 1"),
            ("-DBAD_EVALUATIONS", 5, "each round has one at least"),
            ("-DBAD_MANY_EVALUATIONS", 5, "too many to count"),
            ("-DBAD_EMPTY", 5, "no frames, or no evaluations"),
            ("-DBAD_SHAPE", 5, "a step of [1, 16, 2, 8, 8] in F32 gave [1, 16, 1, 8, 8] in F32"),
            ("-DBAD_DTYPE", 5, "a step of [1, 16, 2, 8, 8] in F32 gave [1, 16, 2, 8, 8] in F8E4M3"),
            ("-DBAD_NAN", 5, "latent frame 0"),
            ("-DBAD_CANCELLED", 5, "says that the run was stopped, which nobody has done"),
            ("-DBAD_CHDIR", 5, "has changed the working directory"),
        ],
    );
}

#[test]
fn a_cache_in_c_that_breaks_its_contract_is_named() {
    end_so(
        "bad_cache.c",
        &["--cache", "bad-cache", "--sampler", "euler"],
        &[
            ("-DBAD_DECIDES", 5, "there is no decision point 77"),
            ("-DBAD_READS", 5, "there is no signal in 2147483648"),
            ("-DBAD_REPLACES", 5, "there is no tensor to replace 77"),
            ("-DBAD_MEASURES", 5, "72 measures, at most 64 are taken"),
            ("-DBAD_RULE", 5, "its rule is no rule"),
            ("-DBAD_BYTES", 4, "most of it cache"),
            ("-DBAD_PLAN_CANCELLED", 5, "says that the run was stopped, which nobody has done"),
            ("-DBAD_REUSE", 5, "is no tensor, or one that was released"),
            ("-DBAD_RELEASED", 5, "is no tensor, or one that was released"),
            ("-DBAD_SHAPE", 5, "a reused tensor of [1, 16, 192] in the place of one of"),
            ("-DBAD_NAN", 5, "not finite"),
            ("-DBAD_MEASURED", 5, "measured 1000 numbers"),
            ("-DBAD_CANCELLED", 5, "says that the run was stopped, which nobody has done"),
            ("-DBAD_STORE", 5, "no room for it"),
            ("-DBAD_ABORT", 5, "ended the process in the middle of its work"),
            ("-DBAD_SIZE", 5, "cache: its size says 16 bytes, 88 are needed"),
            ("-DBAD_FUNCTION", 5, "its function store is NULL"),
        ],
    );
}

/// Sums of what a cache declares end at the largest number; nothing overflows.
#[test]
fn a_plan_with_a_cache_that_declares_all_there_is_does_not_fit() {
    let built = with_fault("bad_cache.c", "-DBAD_BYTES");
    for fit in ["auto", "never"] {
        let (code, said) =
            told(&built, "plan", &["--sampler", "euler", "--cache", "bad-cache", "--fit", fit]);
        assert_eq!(code, Some(4), "{fit}: {said}");
        assert!(said.contains("most of it cache") && !said.contains("panicked"), "{fit}: {said}");
    }
}

/// Checks that `wan plugins check` ends with 5, and that this test of it says this.
fn is_found(library: &Path, fault: &str, (test, expected): (&str, &str)) -> Result<(), String> {
    let flags = ["--json", "--seed", "5", "--only", test];
    let output = wan(&[&["plugins", "check", library.to_str().unwrap()][..], &flags].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let is_found = findings.iter().any(|finding| {
        let said = finding["message"].as_str().unwrap_or_default();
        let is_bad = ["fail", "crash", "timeout"].iter().any(|bad| finding["status"] == *bad);
        finding["test"] == test && is_bad && said.contains(expected)
    });
    match output.status.code() == Some(5) && is_found {
        true => Ok(()),
        false => Err(format!("{fault}, {:?}: {report:#}{}", output.status, error_text(&output))),
    }
}

#[test]
fn plugins_check_finds_what_is_wrong_in_c() {
    let mut wrong = Vec::new();
    for (file, fault, test, expected) in [
        ("bad.c", "-DBAD_SIZE", "manifest", "its size says 16 bytes"),
        ("bad.c", "-DBAD_EPOCH", "manifest", "epoch 99"),
        ("bad.c", "-DBAD_FOREVER", "sampler-schedule", "each round has one at least"),
        ("bad.c", "-DBAD_RISE", "sampler-schedule", "impossible levels"),
        ("bad.c", "-DBAD_GAP", "sampler-schedule", "at place"),
        ("bad.c", "-DBAD_NO_ROUNDS", "sampler-schedule", "leaves frame"),
        ("bad.c", "-DBAD_SHAPE", "sampler-shapes", "a step gave"),
        ("bad.c", "-DBAD_DTYPE", "sampler-shapes", "a step gave"),
        ("bad.c", "-DBAD_NAN", "sampler-shapes", "not finite"),
        ("bad.c", "-DBAD_CHDIR", "sampler-shapes", "working directory"),
        ("bad.c", "-DBAD_SEGFAULT", "sampler-shapes", "signal: 11"),
        ("bad_cache.c", "-DBAD_FUNCTION", "manifest", "its function store is NULL"),
        ("bad_cache.c", "-DBAD_DECIDES", "cache-reuse", "there is no decision point 77"),
        ("bad_cache.c", "-DBAD_ALWAYS", "cache-reuse", ""),
        ("bad_cache.c", "-DBAD_SHAPE", "cache-reuse", ""),
        ("bad_cache.c", "-DBAD_RELEASED", "cache-reuse", "is no tensor, or one that was released"),
        ("bad_cache.c", "-DBAD_MEASURED", "cache-reuse", "measured 1000 numbers"),
        ("bad_cache.c", "-DBAD_LITTLE", "cache-memory", ""),
        ("bad_cache.c", "-DBAD_ABORT", "cache-reuse", "signal: 6"),
    ] {
        let built = with_fault(file, fault);
        wrong.extend(is_found(&built.path(), fault, (test, expected)).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_library_in_c_that_is_cut_is_refused_before_it_is_opened() {
    let built = c_fixture("euler.c");
    let bytes = std::fs::read(built.path()).unwrap();
    for part in [1, 2, 3] {
        std::fs::write(built.path(), &bytes[..bytes.len() * part / 4]).unwrap();
        let (code, said) = told(&built, "generate", &["--sampler", "c-euler"]);
        assert_eq!(code, Some(5), "{part} of 4: {said}");
        assert!(said.contains("cut short or damaged"), "{part} of 4: {said}");
        let found = ("manifest", "cut short or damaged");
        is_found(&built.path(), "cut", found).unwrap();
    }
}

/// Only tables of abi_stable are compared whole; those in C say what is wrong with them.
#[test]
fn a_library_in_c_is_not_told_to_be_built_with_a_crate() {
    for fault in ["-DBAD_SIZE", "-DBAD_FUNCTION", "-DBAD_EPOCH", "-DBAD_PLUGIN"] {
        let (code, said) = told(&with_fault("bad.c", fault), "generate", &["--sampler", "bad"]);
        assert_eq!(code, Some(5), "{fault}: {said}");
        assert!(!said.contains("wan-plugin-api"), "{fault}: {said}");
    }
}

/// `log` may be called at any time on any thread.
#[test]
fn what_a_library_in_c_says_is_in_the_log_whenever_it_says_it() {
    let built = c_fixture("talks.c");
    let (code, said) = told(&built, "generate", &["--sampler", "talks", "--cache", "talks"]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "talks when it is opened",
        "talks on its own thread",
        "talks when the sampler is made",
        "talks in its schedule",
        "talks in a step",
        "talks when the sampler ends",
        "talks when a cache is made",
        "talks in its plan",
        "talks when it decides",
        "talks when a cache ends",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(
        done(&["plugins", "list", "--plugin_dir", built.folder().to_str().unwrap()])
            .contains("talks")
    );
}
