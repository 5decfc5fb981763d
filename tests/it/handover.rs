//! A schedule in two runs: the first leaves noisy latents, the second goes on from them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{error_text, wan};

const SHORT: [&str; 8] =
    ["--frame_num", "9", "--sample_steps", "8", "--cache", "none", "--progress", "quiet"];

fn generate(video: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let save = ["generate", "--save_file", video.to_str().unwrap()];
    let output = wan(&[&save, &SHORT[..], flags].concat());
    (output.status.code(), error_text(&output))
}

fn latents_hash(video: &Path) -> String {
    let sidecar: Value = serde_json::from_slice(&fs::read(video).unwrap()).unwrap();
    sidecar["latents_hash"].as_str().unwrap().into()
}

#[test]
fn two_runs_give_the_bits_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (whole, first, second) = (path("whole.mp4"), path("first.mp4"), path("second.mp4"));
    assert_eq!(generate(&whole, &[]), (Some(0), String::new()));
    let end = ["--sampler-option", "end_step=3", "--latents_only"];
    assert_eq!(generate(&first, &end).0, Some(0));
    assert!(!first.exists(), "latents only");
    let latents = path("first.latents.safetensors");
    let latents = latents.to_str().unwrap();
    let (code, text) =
        generate(&second, &["--sampler-option", "start_step=3", "--latents", latents]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(latents_hash(&path("whole.json")), latents_hash(&path("second.json")));

    // Another sampler takes over where the first one left.
    let other = ["--sampler", "heun", "--sampler-option", "timesteps=wan"];
    let from = ["--sampler-option", "start_step=3", "--latents", latents];
    let (code, text) = generate(&second, &[&other[..], &from].concat());
    assert_eq!(code, Some(0), "{text}");
    assert_ne!(latents_hash(&path("whole.json")), latents_hash(&path("second.json")));

    // It must be where the first one left, and noise is no picture.
    let wrong = ["--sampler-option", "start_step=4", "--latents", latents];
    let (code, text) = generate(&second, &wrong);
    assert!(code == Some(2) && text.contains("begin where the earlier run ended"), "{text}");
    let (code, text) = generate(&second, &["--sampler-option", "end_step=3"]);
    assert!(code == Some(2) && text.contains("--latents_only"), "{text}");
    let output = wan(&["decode", latents]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("noisy latents"), "{}", error_text(&output));
}
