//! `wan bench --quick` measures this machine, and `wan plan` reads what it wrote.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{error_text, program};

/// Runs the program for a user whose folder of caches is `caches`.
fn wan(caches: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env("XDG_CACHE_HOME", caches).env("HOME", caches);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", error_text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

#[test]
fn a_plan_has_times_once_the_machine_was_measured() {
    let caches = tempfile::tempdir().unwrap();
    let plan = ["plan", "--device", "cpu"];
    let before = text(&wan(caches.path(), &plan));
    assert!(before.contains("time: `wan bench --quick`"), "{before}");
    let quick = ["bench", "--quick", "--seconds", "0", "--json"];
    let measured = json(&wan(caches.path(), &quick));
    let (file, speed) = (measured["file"].as_str().unwrap(), &measured["speed"]);
    let kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(&kept, speed);
    for kind in ["products", "attention", "convolutions"] {
        for format in ["f32", "bf16"] {
            assert!(speed["gflops"][kind][format].as_f64().unwrap() > 0.0, "{kind} {format}");
        }
    }
    let date = speed["date"].as_str().unwrap();
    let after = text(&wan(caches.path(), &plan));
    let line = after.lines().find(|line| line.starts_with("time, estimated: denoise ")).unwrap();
    assert!(line.contains(&format!("measured on {date}")), "{line}");
    let planned = json(&wan(caches.path(), &[&plan[..], &["--json"]].concat()));
    let seconds = |name: &str| planned["time"]["at_least"][name].as_f64().unwrap();
    assert_eq!(planned["time"]["measured"], *date);
    assert!(seconds("decoding_seconds") > 0.0);
    // The sum of work over speed, computed here once more.
    let over = |format: &str| {
        let work = &planned["plan"]["denoising"];
        let of = |what: &str, kind: &str, format: &str| {
            work[what].as_f64().unwrap() / speed["gflops"][kind][format].as_f64().unwrap() / 1e9
        };
        of("products", "products", format)
            + of("wide_products", "products", "f32")
            + of("attention", "attention", format)
    };
    assert!((seconds("denoising_seconds") / over("f32") - 1.0).abs() < 1e-9);
}

#[test]
fn a_measurement_of_other_kernels_or_threads_is_none_and_a_damaged_one_is_named() {
    let caches = tempfile::tempdir().unwrap();
    let quick = ["bench", "--quick", "--seconds", "0", "--kernels", "portable"];
    assert!(text(&wan(caches.path(), &quick)).contains("kernels portable"));
    let plan = ["plan", "--device", "cpu", "--kernels"];
    let of = |kernels: &str| text(&wan(caches.path(), &[&plan[..], &[kernels]].concat()));
    assert!(of("portable").contains("time, estimated"));
    let file = caches.path().join("wan/speed.json");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, written.replace("\"threads\": ", "\"threads\": 7")).unwrap();
    assert!(of("portable").contains("time: `wan bench --quick`"), "of other threads");
    std::fs::write(&file, &written[..written.len() / 2]).unwrap();
    let output = wan(caches.path(), &["plan", "--device", "cpu"]);
    assert_eq!(output.status.code(), Some(2));
    let said = error_text(&output);
    assert!(said.contains("speed.json") && said.contains("wan bench --quick"), "{said}");
}

#[test]
fn the_quick_measurement_is_asked_for_by_name() {
    let caches = tempfile::tempdir().unwrap();
    let output = wan(caches.path(), &["bench"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("--quick"), "{}", error_text(&output));
}
