//! `wan plugins check`, as its user sees it: words, facts, flags, limits and exit codes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{error_text, fixture, plugin, program, wan};

fn check(library: &Path, flags: &[&str]) -> Output {
    wan(&[&["plugins", "check", library.to_str().unwrap()], flags].concat())
}

fn standard_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `--json` says.
fn report(library: &Path, flags: &[&str]) -> (Option<i32>, Value) {
    let output = check(library, &[&["--json", "--seed", "5"], flags].concat());
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), report)
}

/// Status and message of one test of one strategy.
fn finding(report: &Value, test: &str, strategy: Option<&str>) -> (String, String) {
    let is_it = |f: &&Value| f["test"] == test && f["strategy"].as_str() == strategy;
    let found = report["findings"].as_array().unwrap().iter().find(is_it);
    let found = found.unwrap_or_else(|| panic!("no {test} of {strategy:?} in {report:#}"));
    let text = |name: &str| found[name].as_str().unwrap().to_string();
    (text("status"), text("message"))
}

/// Asserts how tests of a strategy end, and all that they say.
fn ends_so(library: &Path, strategy: &str, expected: &[(&str, &str, &str)]) {
    let only: Vec<&str> = expected.iter().flat_map(|(test, ..)| ["--only", test]).collect();
    let (_, report) = report(library, &only);
    for (test, status, message) in expected {
        let (found, said) = finding(&report, test, Some(strategy));
        assert_eq!((found.as_str(), said.as_str()), (*status, *message), "{test} of {strategy}");
    }
}

#[test]
fn a_sound_sampler_is_tried_as_often_as_it_should_be() {
    // 1 plain, 8 numbers of steps, 5 of frames, 3 shifts, 2 prefixes and 1 long; then, in scenes,
    // 1 plain, 10 of steps, 4 of frames, 4 shifts, 4 prefixes, 2 long and 30 at random; errors of
    // two kinds at each of 8 and of 30 evaluations.
    ends_so(
        &fixture("few_samplers"),
        "unharmed",
        &[
            ("sampler-options", "pass", "0 of 0 sets accepted"),
            ("sampler-schedule", "pass", "20 requests served, 0 refused"),
            ("sampler-constant", "pass", "55 exact, 0 with noise, 0 refused"),
            ("sampler-handover", "skipped", "it has no start_step and end_step"),
            ("sampler-determinism", "pass", "55 runs repeated"),
            ("sampler-instances", "pass", ""),
            ("sampler-state", "skipped", "it does not list wan.state/1"),
            ("sampler-numbers", "pass", ""),
            ("sampler-errors", "pass", "stopped at 76 evaluations"),
            ("sampler-handles", "pass", "at most 0 bytes held between steps"),
        ],
    );
}

#[test]
fn what_a_sampler_can_do_is_told_in_numbers() {
    let library = fixture("few_samplers");
    // Two frames of three numbers of four bytes.
    let held = ("sampler-handles", "pass", "at most 24 bytes held between steps");
    ends_so(&library, "unharmed-memory", &[held]);
    // Eight steps can be divided at seven places; no other option is there.
    let parts = ("sampler-handover", "pass", "7 schedules in two parts");
    ends_so(&library, "unharmed-parts", &[parts]);
    let (_, report) = report(&library, &["--only", "sampler-constant"]);
    let (status, said) = finding(&report, "sampler-constant", Some("unharmed-noise"));
    let numbers: Vec<usize> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(status, "pass");
    // A single step renews nothing.
    assert!(numbers[0] >= 1 && numbers[1] >= 24 && numbers[0] + numbers[1] == 55, "{said}");
    assert_eq!(numbers[2], 0, "{said}");
}

#[test]
fn a_sampler_that_refuses_a_prefix_is_served_without() {
    // Of 20 requests two have a prefix; no frame rests.
    ends_so(
        &fixture("strategies"),
        "unipc",
        &[
            ("sampler-schedule", "pass", "18 requests served, 2 refused"),
            ("sampler-frozen", "skipped", "it refuses clean frames at the start, and freezes none"),
        ],
    );
}

#[test]
fn frozen_frames_are_counted() {
    let (_, report) = report(&fixture("few_samplers"), &["--only", "sampler-frozen"]);
    let (status, said) = finding(&report, "sampler-frozen", Some("unharmed"));
    let seen: usize = said.strip_suffix(" frozen frames").unwrap().parse().unwrap();
    // Eight rounds of prefixes of 1, 3, 4 and 3, of 2 in front of a long video, and of 1 and 4
    // large ones; more at random.
    assert!(status == "pass" && seen > 8 * (1 + 3 + 4 + 3 + 2 + 1 + 4), "{said}");
}

/// The project's own samplers and caches: no warning but those that are known, and meant.
#[test]
fn the_projects_plugins_give_no_unknown_warning() {
    let (code, report) = report(&plugin("diffusion-forcing"), &[]);
    assert_eq!(code, Some(0), "{report:#}");
    let findings = report["findings"].as_array().unwrap();
    for finding in findings.iter().filter(|f| f["status"] != "pass") {
        let (test, said) =
            (finding["test"].as_str().unwrap(), finding["message"].as_str().unwrap());
        assert_eq!(finding["status"], "warn", "{finding}");
        match test {
            // As the references do, which is not what UniPC says.
            "sampler-constant" => assert!(said.contains("\"overwritten\""), "{said}"),
            "sampler-options" => assert!(said.contains("does not let through"), "{said}"),
            "sampler-cost" => {}
            _ => panic!("{finding}"),
        }
    }
    let tests: Vec<&str> = findings.iter().map(|f| f["test"].as_str().unwrap()).collect();
    assert_eq!(
        tests,
        [
            "manifest",
            "metadata",
            "sampler-options",
            "sampler-schedule",
            "sampler-shapes",
            "sampler-frozen",
            "sampler-constant",
            "sampler-handover",
            "sampler-determinism",
            "sampler-instances",
            "sampler-state",
            "sampler-numbers",
            "sampler-errors",
            "sampler-handles",
            "sampler-cost",
        ]
    );
}

#[test]
fn a_caches_tests_name_the_properties_that_held() {
    let library = plugin("first-block");
    ends_so(
        &library,
        "first-block",
        &[
            ("cache-reuse", "pass", "first, answers, form, stored, newest"),
            ("cache-memory", "pass", "declared, exact, place"),
            ("cache-determinism", "pass", "repeats"),
            ("cache-instances", "pass", "interleaved"),
            ("cache-numbers", "pass", "shape, spoilt, recovers"),
        ],
    );
    // What it is the half of is in another library.
    let half = ("cache-memory", "pass", "declared, exact, place");
    ends_so(&plugin("half-memory"), "first-block-half", &[half]);
    let (_, report) = report(&library, &[]);
    let (_, rules) = finding(&report, "cache-rules", Some("first-block"));
    for property in ["off", "limits", "gate", "scale", "prefix", "resting", "equal-levels"] {
        assert!(rules.split(", ").any(|held| held == property), "{property} in {rules}");
    }
    assert!(!rules.contains("first,") && !rules.contains("repeats"), "{rules}");
    let (_, cost) = finding(&report, "cache-cost", Some("first-block"));
    assert!(cost.contains(" us for each evaluation"), "{cost}");
}

#[test]
fn a_cache_that_knows_no_small_model_is_skipped() {
    let (code, report) = report(&fixture("records"), &[]);
    assert_eq!(code, Some(0), "{report:#}");
    let of_it = |f: &&Value| f["strategy"] == "picky";
    let findings: Vec<_> = report["findings"].as_array().unwrap().iter().filter(of_it).collect();
    assert_eq!(findings.len(), 8);
    for finding in findings.iter().filter(|f| f["test"] != "cache-options") {
        assert_eq!(finding["status"], "skipped");
        let said = finding["message"].as_str().unwrap();
        assert!(said.contains("refuses the small model") && said.contains("no table"), "{said}");
    }
}

#[test]
fn the_report_can_be_read_by_people() {
    let library = fixture("bad_samplers");
    let flags = ["--seed", "9", "--only", "metadata", "--only", "sampler-frozen"];
    let output = check(&library, &flags);
    let text = standard_text(&output);
    let lines: Vec<&str> = text.lines().collect();
    let path = library.canonicalize().unwrap();
    assert_eq!(lines[0], format!("wan-tests 0.1.0  {}", path.display()));
    assert_eq!(lines[1], format!("  {:<8} {:<20} ", "pass", "metadata"));
    assert_eq!(lines[2], "unharmed");
    assert!(lines[3].starts_with("  pass     sampler-frozen       "), "{}", lines[3]);
    let bad = lines.iter().position(|line| *line == "moves-frozen").unwrap();
    assert!(lines[bad + 1].starts_with("  FAIL     sampler-frozen       frame "), "{text}");
    let holds = "Frames that a round does not move keep their bits.";
    assert_eq!(lines[bad + 2], format!("{}{holds}", " ".repeat(32)));
    // One line for each strategy and each of its findings, two where something is wrong; the first
    // line, that of the library, and the summary.
    let fails = text.matches("  FAIL ").count();
    let crashes = text.matches("  CRASH ").count();
    let strategies = lines.iter().filter(|line| !line.starts_with(' ')).count() - 2;
    assert_eq!(lines.len(), 3 + 2 * strategies + fails + crashes, "{text}");
    let count = |word: &str| text.lines().filter(|l| l.starts_with(&format!("  {word} "))).count();
    let expected = format!(
        "{} pass, 0 warn, {fails} fail, {crashes} crash, 0 timeout, {} skipped; seed 9",
        count("pass"),
        count("skipped"),
    );
    assert_eq!(lines[lines.len() - 1], expected);
    assert!(fails >= 4 && crashes == 1, "{text}");
    let said = error_text(&output);
    assert_eq!(said, format!("wan: {} does not pass: {expected}\n", path.display()));
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn a_good_report_ends_with_0_and_says_nothing_on_the_error_stream() {
    let output = check(&plugin("easycache"), &["--seed", "4", "--only", "cache-memory"]);
    assert_eq!((output.status.code(), error_text(&output).as_str()), (Some(0), ""));
    let text = standard_text(&output);
    assert!(
        text.ends_with("1 pass, 0 warn, 0 fail, 0 crash, 0 timeout, 0 skipped; seed 4\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 4, "{text}");
    // A warning is good enough.
    let output = check(&fixture("described_by_variable"), &["--only", "manifest"]);
    assert_eq!(output.status.code(), Some(0));
    let text = standard_text(&output);
    assert!(text.contains("  warn     manifest             described 1.2.3, epoch 1"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn the_report_can_be_read_by_programs() {
    let library = plugin("magcache");
    let (code, report) = report(&library, &["--only", "manifest", "--only", "cache-reuse"]);
    assert_eq!(code, Some(0));
    let shown = wan(&["plugins", "show", library.to_str().unwrap(), "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(report["hash"], shown[0]["hash"]);
    assert_eq!(report["path"], library.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(report["seed"], 5);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2, "{report:#}");
    let said = "wan-plugin-magcache 0.1.0, epoch 1, built with wan-plugin-api 0.1.0";
    assert_eq!(finding(&report, "manifest", None), ("pass".into(), said.into()));
    assert!(findings[0]["strategy"].is_null() && findings[1]["strategy"] == "magcache");
}

#[test]
fn what_cannot_be_opened_is_reported_whatever_was_asked_for() {
    let (code, report) = report(&fixture("not_a_plugin"), &["--only", "cache-reuse"]);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((code, findings.len()), (Some(5), 1), "{report:#}");
    assert_eq!(finding(&report, "manifest", None).0, "fail");
    // Without a description there is no name to print.
    let text = standard_text(&check(&fixture("not_a_plugin"), &[]));
    let path = fixture("not_a_plugin").canonicalize().unwrap();
    assert_eq!(text.lines().next(), path.to_str());
}

#[test]
fn time_and_memory_have_limits_that_can_be_set() {
    let (code, found) = report(&fixture("bad_hangs_when_described"), &["--timeout", "0.25"]);
    assert_eq!(code, Some(5));
    let said = "no end after 0.25 s; a loop, or a lock that is never given up";
    assert_eq!(finding(&found, "manifest", None), ("timeout".into(), said.into()));

    // A process that does not end is ended: of this copy none is left.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(fixture("bad_hangs_when_described").file_name().unwrap());
    std::fs::copy(fixture("bad_hangs_when_described"), &copy).unwrap();
    report(&copy, &["--timeout", "0.25"]);
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(!line.contains(copy.to_str().unwrap()), "{line} is still there");
    }

    let of = |mib: &str| {
        let flags = ["--only", "sampler-schedule", "--memory", mib];
        let (_, report) = report(&fixture("few_samplers"), &flags);
        ["unharmed-600-mib", "unharmed"].map(|id| finding(&report, "sampler-schedule", Some(id)).0)
    };
    // It takes 600 MiB.
    assert_eq!(of("512"), ["crash", "pass"]);
    assert_eq!(of("2048"), ["pass", "pass"]);
    let flags = ["--only", "sampler-schedule"];
    let (_, report) = report(&fixture("few_samplers"), &flags);
    let by_default = finding(&report, "sampler-schedule", Some("eats-memory"));
    assert_eq!(by_default.0, "crash");
    assert_eq!(finding(&report, "sampler-schedule", Some("unharmed-600-mib")).0, "pass");
    let output = check(&fixture("strategies"), &["--memory", "255"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("255"), "{}", error_text(&output));
}

#[test]
fn a_crash_is_told_by_the_last_line_that_the_library_wrote() {
    let (_, report) = report(&fixture("bad_aborts_when_described"), &[]);
    let (status, said) = finding(&report, "manifest", None);
    assert_eq!(status, "crash");
    assert!(said.starts_with("the process ended with signal: 6"), "{said}");
    assert!(said.ends_with(": no options today"), "{said}");
    assert!(!said.contains("at exit"), "{said}");
}

/// The description that a variable names, and how its metadata is found.
fn metadata(case: &str) -> (Option<i32>, String, String) {
    let library = fixture("described_by_variable");
    let mut command = Command::new(program());
    command.args(["plugins", "check", "--json", "--only", "metadata"]).arg(library);
    let output = command.env("WAN_DESCRIBED", case).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (status, said) = finding(&report, "metadata", None);
    (output.status.code(), status, said)
}

#[test]
fn words_that_no_list_can_show_are_refused() {
    for (case, expected) in [
        ("nothing", "it offers no sampler and no cache"),
        ("twins", "two samplers are called plain"),
        ("capital", "sampler id \"Plain\": lower-case letters, digits and `-.+`, a letter first"),
        ("digit", "sampler id \"1plain\": lower-case"),
        ("sign", "sampler id \"pl_ain\": lower-case"),
        ("too long", "sampler id \"a23456789-123456789-123456789-123456789-123456789\" is longer"),
        ("too long", "longer than 48 characters"),
        ("no doc", "sampler plain has no documentation"),
        ("lines", "sampler plain: its documentation is more than one line"),
        ("over doc", "sampler plain: its documentation is over 160 characters"),
        ("option sign", "option my-option of told \"my-option\": lower-case letters"),
        ("option twins", "told has two options called mine"),
        ("option doc", "option mine of told has no documentation"),
        ("flag", "the flag of option mine of told \"my-flag\": lower-case letters"),
        ("extension", "extension \"mine.extension\" of told has no revision, as `name/1`"),
        ("extension word", "extension \"mine.extension/first\" of told has no revision"),
    ] {
        let (code, status, said) = metadata(case);
        assert!((code, status.as_str()) == (Some(5), "fail"), "{case}: {status} {said}");
        assert!(said.contains(expected), "{case}: {said}");
    }
    for case in ["", "signs", "longest", "full doc", "capital flag", "extension draft"] {
        assert_eq!(metadata(case), (Some(0), "pass".into(), String::new()), "{case}");
    }
}

#[test]
fn manifest_and_package_are_held_to_what_they_say() {
    for (library, test, status, expected) in [
        (
            "other_name",
            "manifest",
            "fail",
            "manifest's name is \"described\", the description's \"another\"",
        ),
        ("other_version", "manifest", "fail", "version is \"1.2.3\", the description's \"1.2.4\""),
        ("other_licence", "manifest", "fail", "licence is \"MIT\", the description's \"0BSD\""),
        (
            "by_variable",
            "manifest",
            "warn",
            "built with wan-plugin-api 0.0.9; this host has 0.1.0, and both speak epoch 1",
        ),
        ("no_name", "metadata", "fail", "the package has no name"),
        ("two_numbers", "metadata", "fail", "version \"1.2-a\" is not MAJOR.MINOR.PATCH"),
        ("no_licence", "metadata", "warn", "no licence: nobody may pass it on"),
        ("odd_licence", "metadata", "warn", "licence \"mine_alone\" is no SPDX expression"),
    ] {
        let (_, report) = report(&fixture(&format!("described_{library}")), &["--only", test]);
        let (found, said) = finding(&report, test, None);
        assert_eq!(found, status, "{library}: {said}");
        assert!(said.contains(expected), "{library}: {said}");
    }
}
