//! Bad input: exit code 2 or 3, one line that says what to do, nothing under the final name.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{demo_folder, error_text, program, wan};

/// Runs `wan generate` with these flags into a folder of its own; expects a refusal of the request.
pub(crate) fn check_refused(flags: &[&str], expected: &str) {
    check_ends(2, flags, expected);
}

/// As [`check_refused`], where a file of the model cannot be used.
pub(crate) fn check_unusable(flags: &[&str], expected: &str) {
    check_ends(3, flags, expected);
}

fn check_ends(code: i32, flags: &[&str], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let save = ["generate", "--progress", "quiet", "--save_file", video.to_str().unwrap()];
    let output = wan(&[&save, flags].concat());
    let text = error_text(&output);
    assert_eq!(output.status.code(), Some(code), "{flags:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{flags:?}: {text}");
    assert!(text.contains(expected), "{flags:?}: {text}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "{flags:?} left a file behind");
}

#[test]
fn unknown_names_are_met_with_the_nearest() {
    check_refused(&["--promt", "x"], "--prompt");
    check_refused(&["--sampler", "unipcc"], "did you mean unipc?");
    check_refused(&["--cache", "teacach"], "did you mean teacache?");
    check_refused(&["--cache-option", "treshold=1"], "did you mean threshold?");
    check_refused(&["--sampler-option", "ar_stp=1"], "did you mean ar_step?");
}

#[test]
fn values_that_do_not_fit_are_met_with_what_does() {
    check_refused(&["--cache-option", "threshold=high"], "a number from 0 to 100");
    check_refused(&["--cache-option", "threshold"], "expected NAME=VALUE");
    check_refused(&["--cache", "teacache", "--cache-option", "mode=e1"], "e0 | e");
    check_refused(&["--task", "t2v-14b"], "did you mean t2v-14B?");
    check_refused(&["--frame_num", "32"], "try 29 or 33");
    check_refused(&["--frame_num", "many"], "--frame_num");
    check_refused(&["--size", "60*64"], "try 64*64");
    check_refused(&["--size", "64"], "expected WIDTH*HEIGHT");
    check_refused(&["--sample_steps", "0"], "--sample_steps");
    check_refused(&["--ar_step", "2", "--causal_block_size", "4"], "causal_block_size");
    check_refused(&["--ar_step", "2", "--sampler", "unipc"], "which this run does not use");
    check_refused(&["--cache", "none", "--cache-option", "threshold=1"], "needs a cache");
}

#[test]
fn a_device_that_cannot_be_used_is_refused_with_the_reason() {
    check_refused(&["--device", "gpu"], "expected auto, cpu, cuda or cuda:N");
    // Without CUDA, without a driver and without a hundred GPUs alike.
    check_refused(&["--device", "cuda:99"], "--device cuda:99: th");
}

#[test]
fn places_that_are_not_there_are_named() {
    check_refused(&["--plugin-dir", "/nowhere/at/all"], "check --plugin_dir");
    check_refused(&["--ckpt_dir", "/nowhere/at/all"], "not a model folder");
    let output = wan(&["generate", "--save_file", "/nowhere/at/all/out.mp4"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("cannot write to /nowhere/at/all"));
    let output = wan(&["decode", "/nowhere.latents.safetensors"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("/nowhere.latents.safetensors"));
}

#[test]
fn a_config_that_is_named_has_to_be_there_whoever_asks() {
    let vae = demo_folder().join("vae/diffusion_pytorch_model.safetensors");
    let vae = vae.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (absent, other, written) = (path("absent.json"), path("other.json"), path("a.gguf"));
    fs::write(&other, r#"{"model_type": "llama"}"#).unwrap();
    for config in [&absent, &other] {
        for command in [&["inspect", vae][..], &["convert", vae, "--out", &written]] {
            let output = wan(&[command, &["--config", config]].concat());
            let said = error_text(&output);
            assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
            let expected = format!("--config {config}: not there, or not of a known part");
            assert!(said.contains(&expected), "{command:?}: {said}");
        }
    }
    let beside = demo_folder().join("vae/config.json");
    let beside = ["inspect", vae, "--config", beside.to_str().unwrap()];
    assert_eq!(wan(&beside).status.code(), Some(0));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => fs::copy(entry.path(), target).map(|_| ()).unwrap(),
        }
    }
}

#[test]
fn missing_and_truncated_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy_folder(&demo_folder(), &model);
    let weights = model.join("transformer/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let flags = ["--ckpt_dir", model.to_str().unwrap()];
    let check = |expected: &str| check_refused(&flags, expected);
    for len in [0, 7, 1000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..len]).unwrap();
        check_unusable(&flags, "diffusion_pytorch_model.safetensors");
    }
    fs::remove_file(&weights).unwrap();
    check("no weight file");
    fs::write(&weights, &bytes).unwrap();
    fs::write(model.join("wan.toml"), "[generate]\nframes = 3\n").unwrap();
    check_unusable(&flags, "wan.toml");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy_folder(&demo_folder(), &model);
    let config = model.join("transformer/config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"ffn_dim\": 768", "\"ffn_dim\": 512");
    fs::write(&config, text).unwrap();
    check_unusable(&["--ckpt_dir", model.to_str().unwrap()], "blocks.0.ffn");
}

#[test]
fn help_teaches_the_strategies_own_flags() {
    let output = wan(&["generate", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["--ar_step", "--causal_block_size", "--teacache_thresh", "--size", "wan.toml"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[test]
fn plugins_can_be_listed_as_json() {
    let output = wan(&["plugins", "list", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| ["samplers", "caches"].map(|kind| p["plugin"][kind].as_array().unwrap()))
        .flatten()
        .map(|s| s["id"].as_str().unwrap())
        .collect();
    for id in ["euler", "unipc", "dpm++", "diffusion-forcing", "teacache", "teacache-half"] {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
}

#[test]
fn parts_can_be_named_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let part = |path: &str| demo_folder().join(path).to_str().unwrap().to_string();
    let files = [
        ("--transformer", part("transformer/diffusion_pytorch_model.safetensors")),
        ("--vae", part("vae/diffusion_pytorch_model.safetensors")),
        ("--text_encoder", part("text_encoder/model.safetensors")),
        ("--tokenizer", part("tokenizer/tokenizer.json")),
    ];
    let video = folder.path().join("out.mp4");
    let settings = [
        "generate",
        "--progress",
        "quiet",
        "--prompt",
        "a big red ball rising over a ocean",
        "--size",
        "64*64",
        "--frame_num",
        "5",
        "--sample_steps",
        "2",
        "--save_file",
        video.to_str().unwrap(),
    ];
    let named: Vec<&str> = files.iter().flat_map(|(flag, file)| [*flag, file.as_str()]).collect();
    let output = wan(&[&settings[..], &named].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(video.exists());
    check_refused(&[&named[..2], &["--prompt", "x"]].concat(), "no file with the weights of the");
}

#[test]
fn weights_are_inspected_and_a_missing_tensor_is_named() {
    let output = wan(&["inspect", demo_folder().to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_transformer =
        |set: &&serde_json::Value| set["path"].as_str().unwrap().ends_with("/transformer");
    let transformer = list.as_array().unwrap().iter().find(is_transformer).unwrap();
    assert_eq!(transformer["size"]["tensors"], 231);

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy_folder(&demo_folder(), &model);
    let config = model.join("transformer/config.json");
    let text =
        fs::read_to_string(&config).unwrap().replace("\"num_layers\": 8", "\"num_layers\": 9");
    fs::write(&config, text).unwrap();
    let output = wan(&["inspect", model.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("`blocks.8.attn1.to_q.weight` is missing"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(program())
        .args(["plugins", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), error_text(&output)), (Some(0), String::new()));
}
