//! `wan cache`: what is planned is what happens, what is recorded can be replayed and calibrated
//! from, and an interrupted comparison goes on where it was.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{done, json_file, refused};

/// A short run: 9 frames, 8 steps.
const SHORT: [&str; 6] = ["--frame_num", "9", "--sample_steps", "8", "--progress", "quiet"];

/// Round, branch, choice and numbers of each evaluation.
fn decisions(evaluations: &Value) -> Vec<(u64, String, String, String)> {
    let of = |e: &Value| {
        let text = |name: &str| e[name].as_str().unwrap().to_string();
        (e["round"].as_u64().unwrap(), text("branch"), text("choice"), e["measured"].to_string())
    };
    evaluations.as_array().unwrap().iter().map(of).collect()
}

/// A clip to go on from.
fn clip(folder: &Path) -> String {
    let clip = folder.join("clip.mp4").to_str().unwrap().to_string();
    done(&[&["generate", "--cache", "none", "--save_file", &clip], &SHORT[..]].concat());
    clip
}

#[test]
fn a_plan_is_what_the_run_then_does() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip(folder.path());
    let scenarios: [&[&str]; 4] = [
        &["--sampler", "unipc"],
        &[],
        &["--ar_step", "2", "--causal_block_size", "1"],
        &["--video", &clip, "--context_frames", "5", "--frame_num", "17"],
    ];
    let caches: [&[&str]; 3] = [
        &["--cache", "teacache", "--cache-option", "retention=2"],
        &["--cache", "teacache-half", "--cache-option", "threshold=0.3"],
        &["--cache", "magcache", "--cache-option", "table=t2v-1.3b"],
    ];
    for scenario in scenarios {
        for cache in caches {
            let flags = [&SHORT[..], cache, scenario].concat();
            let flags = if scenario.contains(&"--frame_num") { flags[2..].to_vec() } else { flags };
            let plan = done(&[&["cache", "plan", "--json"], &flags[..]].concat());
            let plan: Value = serde_json::from_str(&plan).unwrap();
            let video = folder.path().join("out.mp4");
            let save = ["generate", "--save_file", video.to_str().unwrap()];
            done(&[&save, &flags[..]].concat());
            let report = json_file(&video.with_extension("json"));
            let planned = decisions(&plan["plan"]["evaluations"]);
            assert_eq!(planned, decisions(&report["evaluations"]), "{flags:?}");
            assert!(planned.iter().any(|d| d.2 == "reuse"), "{flags:?}");
            // Item by item, the plan holds what the run held.
            let held = |of: &Value| {
                let bytes = of.as_array().unwrap().iter().map(|h| h["bytes"].as_u64().unwrap());
                bytes.sum::<u64>()
            };
            let cache = &report["memory"]["cache"];
            assert_eq!(held(&plan["plan"]["holdings"]), cache["held_max"], "{flags:?}");
            assert_eq!(plan["plan"]["bytes_per_branch"], cache["declared_per_branch"]);
        }
    }
}

/// ComfyUI-WanVideoWrapper issue 484, on the demo model's own time embedding: an extension has the
/// timesteps of a first pass and clean frames in front.
#[test]
fn an_extension_skips_what_a_first_pass_skips_and_by_the_references_more() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4").to_str().unwrap().to_string();
    let flags = ["generate", "--cache", "none", "--save_file", &clip, "--progress", "quiet"];
    done(&[&flags[..], &["--frame_num", "17", "--sample_steps", "2"]].concat());
    let skips = |rule: &str, more: &[&str]| -> Vec<u64> {
        let flags = ["cache", "plan", "--json", "--cache", "teacache"];
        let options = ["--cache-option", "threshold=0.08", "--cache-option", rule];
        let plan = done(&[&flags[..], &options, more].concat());
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let reused = plan["plan"]["evaluations"].as_array().unwrap().iter();
        let reused = reused.filter(|e| e["choice"] == "reuse" && e["branch"] == "cond");
        reused.map(|e| e["round"].as_u64().unwrap()).collect()
    };
    let extension = ["--video", clip.as_str(), "--context_frames", "17"];
    for ours in ["max_skips=0", "mode=e0", "anchor=computed"] {
        assert_eq!(skips(ours, &[]), skips(ours, &extension), "{ours}");
    }
    for preset in ["preset=upstream", "preset=wanvideowrapper", "preset=wanvideowrapper-half"] {
        let (first, second) = (skips(preset, &[]).len(), skips(preset, &extension).len());
        assert!(second > first + 2, "{preset}: {first} and {second}");
    }
}

#[test]
fn a_target_is_met_by_the_smallest_threshold() {
    let cache = ["--cache", "teacache", "--cache-option", "retention=1"];
    let flags = [&SHORT[..], &cache, &["--cache-option", "max_skips=0"]].concat();
    let planned = |more: &[&str]| -> Value {
        let plan = done(&[&["cache", "plan", "--json"], &flags[..], more].concat());
        serde_json::from_str(&plan).unwrap()
    };
    let found = planned(&["--target_speedup", "1.6"]);
    assert!(found["plan"]["speed_up"].as_f64().unwrap() >= 1.6);
    let threshold = found["cache"]["options"]["threshold"].as_f64().unwrap();
    let below = format!("threshold={}", threshold * 0.999);
    let below = planned(&["--cache-option", &below]);
    assert!(below["plan"]["speed_up"].as_f64().unwrap() < 1.6);
    let impossible = [&["cache", "plan", "--target_speedup", "9"], &flags[..]].concat();
    refused(&impossible, "is the most there is");
}

#[test]
fn a_plan_may_end_early_where_the_run_may() {
    let early = ["--sampler", "unipc", "--sampler_option", "end_step=6"];
    let cache = ["--cache", "teacache", "--cache_option", "retention=2"];
    let flags = [&["cache", "plan", "--json"], &SHORT[..], &early, &cache].concat();
    let plan = done(&[&flags[..], &["--latents_only"]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    // Two branches of each step.
    assert_eq!(decisions(&plan["plan"]["evaluations"]).len(), 12);
    refused(&flags, "--latents_only");
}

#[test]
fn what_depends_on_the_picture_is_not_planned() {
    for cache in ["easycache", "first-block", "forecast"] {
        let flags = [&["cache", "plan", "--cache", cache], &SHORT[..]].concat();
        refused(&flags, "decides by what the model computes");
    }
    refused(&["cache", "plan", "--cache", "none"], "there is no cache to plan");
}

#[test]
fn a_recording_is_replayed_and_calibrated_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (one, two) = (path("one.safetensors"), path("two.safetensors"));
    for (prompt, out) in [("a big red ball rising over a meadow", &one), ("a small box", &two)] {
        done(&[&["cache", "record", "--prompt", prompt, "--out", out], &SHORT[..]].concat());
    }
    // Without the model, a schedule-only cache decides as it was planned.
    let candidate = "teacache:threshold=0.12,retention=2";
    let replayed = done(&["cache", "replay", &one, "--json", "--candidate", candidate]);
    let replayed: Value = serde_json::from_str(&replayed).unwrap();
    let replayed = &replayed[0]["replay"];
    let options = ["--cache-option", "threshold=0.12", "--cache-option", "retention=2"];
    let plan = [&["cache", "plan", "--json", "--cache", "teacache"], &SHORT[..], &options];
    let plan: Value = serde_json::from_str(&done(&plan.concat())).unwrap();
    let choices = |of: &Value| -> Vec<String> {
        of.as_array().unwrap().iter().map(|e| e["choice"].to_string()).collect()
    };
    assert_eq!(choices(&replayed["evaluations"]), choices(&plan["plan"]["evaluations"]));
    // Every reuse has its error, and a forecast errs less than the last residual does.
    let error = |candidate: &str| -> f64 {
        let replayed = done(&["cache", "replay", &one, "--json", "--candidate", candidate]);
        let replayed: Value = serde_json::from_str(&replayed).unwrap();
        replayed[0]["replay"]["mean_error"].as_f64().unwrap()
    };
    let forecast = |blend: &str| error(&format!("forecast:of=residual,interval=2,{blend}"));
    assert!(forecast("blend=1") < forecast("blend=0"));
    assert!(error("first-block:threshold=0.3") > 0.0);
    // Ratios from the recordings are what MagCache then runs with.
    let out = path("calibration.json");
    let printed = done(&["cache", "calibrate", &one, &two, "--out", &out]);
    assert!(printed.contains("ratios of cond"), "{printed}");
    let ratios = json_file(Path::new(&out))["ratios"]["cond"].as_array().unwrap().len();
    assert_eq!(ratios, 8);
    let video = path("out.mp4");
    let option = format!("calibration={out}");
    let flags = ["generate", "--save_file", &video, "--cache", "magcache"];
    let options = ["--cache-option", &option, "--cache-option", "threshold=0.2"];
    done(&[&flags, &options[..], &SHORT[..]].concat());
    let report = json_file(Path::new(&path("out.json")));
    assert!(report["decisions"]["reused"].as_u64() > Some(0), "{}", report["decisions"]);
    // The numbers are part of the settings, so the run does not need the file again.
    assert!(report["settings"]["cache"]["options"]["calibration"]["ratios"].is_object());
}

#[test]
fn files_that_are_no_recordings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, b"12345678 not a recording").unwrap();
    let path = path.to_str().unwrap();
    refused(&["cache", "replay", path, "--candidate", "teacache"], path);
    refused(&["cache", "calibrate", path, "--out", "never.json"], path);
    refused(&["cache", "replay", "missing.safetensors", "--candidate", "teacache"], "missing");
}

/// Up to a run's first reuse its residuals and velocities are the uncached run's.
fn errors_begin_with_the_first_reuse(run: &Value) {
    let decisions = run["decisions"].as_object().unwrap();
    let Some(map) = decisions.values().next().and_then(Value::as_str) else {
        assert_eq!(run["residual_errors"].as_array().unwrap().len(), 0);
        return;
    };
    let first_reuse = map.find('s').unwrap_or(map.len());
    for errors in ["residual_errors", "velocity_errors"] {
        let errors = run[errors].as_array().unwrap().iter().step_by(decisions.len());
        let errors: Vec<f64> = errors.map(|e| e.as_f64().unwrap()).collect();
        assert_eq!(errors.len(), map.len());
        assert!(errors[..first_reuse].iter().all(|e| *e == 0.0), "{map}: {errors:?}");
        assert!(errors[first_reuse..].iter().all(|e| *e > 0.0), "{map}: {errors:?}");
    }
}

#[test]
fn an_interrupted_comparison_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let prompts = folder.path().join("prompts.txt");
    fs::write(&prompts, "# two\na big red ball falling over a meadow\n\na small blue box\n")
        .unwrap();
    let flags = ["cache", "compare", "--prompts", prompts.to_str().unwrap()];
    let more = ["--out", out.to_str().unwrap(), "--candidate", "steps=4", "--candidate"];
    let command =
        [&flags, &more[..], &["teacache:threshold=0|0.3,retention=1"], &SHORT[..]].concat();
    let printed = done(&command);
    assert!(printed.contains("teacache:threshold=0.3,retention=1"), "{printed}");
    let lines = || fs::read_to_string(out.join("runs.jsonl")).unwrap();
    let whole = lines();
    assert_eq!(whole.lines().count(), 6);
    // A crash in the middle of a line: that run is lost, and no other.
    let cut = whole.len() - whole.lines().last().unwrap().len() / 2;
    fs::write(out.join("runs.jsonl"), &whole[..cut]).unwrap();
    done(&command);
    let again = lines();
    assert!(again.starts_with(&whole[..cut]));
    assert_eq!(again.lines().filter(|l| serde_json::from_str::<Value>(l).is_ok()).count(), 6);

    // A line that is whole and no run is damage, and no crash.
    fs::write(out.join("runs.jsonl"), format!("{{\"key\": 7}}\n{again}")).unwrap();
    refused(&command, "runs.jsonl, line 1: not a run");
    fs::write(out.join("runs.jsonl"), &again).unwrap();

    let report = json_file(&out.join("report.json"));
    let candidates = report["candidates"].as_array().unwrap();
    let number = |i: usize, name: &str| candidates[i][name].as_f64().unwrap();
    assert_eq!((number(0, "saved"), number(1, "saved")), (2.0, 1.0));
    // Off is off, to the last pixel; what saves something costs something.
    assert_eq!((number(1, "worst_psnr"), number(1, "worst_ssim")), (100.0, 1.0));
    assert!(number(2, "saved") > 1.0 && number(2, "worst_psnr") < 100.0);
    assert!(number(2, "worst_psnr") <= number(2, "mean_psnr"));
    assert_eq!(report["runs"].as_array().unwrap().len(), 6);
    for run in report["runs"].as_array().unwrap() {
        assert_eq!(run["quality"]["frame_ssim"].as_array().unwrap().len(), 9);
        for picture in ["picture", "reference_picture"] {
            assert!(out.join(run[picture].as_str().unwrap()).is_file());
        }
        errors_begin_with_the_first_reuse(run);
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("<img"));
    refused(&[&flags, &more[..], &["teacache:treshold=1"]].concat(), "did you mean threshold?");
}
