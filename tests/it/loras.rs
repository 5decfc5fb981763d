//! LoRAs through the program: they change the video by their strength, are known by what they hold,
//! and do not fit where they do not belong.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use wan_model::inspect::Network;

use crate::demo::generate;
use crate::support::{demo_folder, error_text, program, sidecar, wan};

const SHORT: [&str; 8] =
    ["--frame_num", "5", "--sample_steps", "2", "--size", "32*32", "--cache", "none"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Plain numbers, always the same.
fn ramp(shape: &[usize], by: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|n| ((n * 7 % 13) as f32 - 6.) * by).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// A LoRA of rank 2 on the first block's queries of the demo model.
fn save(path: &Path, prefix: &str) -> PathBuf {
    let config = demo_folder().join("transformer/config.json");
    let network = Network::read_config(&config, Some("transformer")).unwrap().unwrap();
    let Network::Transformer(config) = network else { panic!("no transformer") };
    let dim = config.dim();
    let tensors = HashMap::from([
        (format!("{prefix}blocks.0.self_attn.q.lora_A.weight"), ramp(&[2, dim], 0.05)),
        (format!("{prefix}blocks.0.self_attn.q.lora_B.weight"), ramp(&[dim, 2], 0.05)),
    ]);
    candle_core::safetensors::save(&tensors, path).unwrap();
    path.to_path_buf()
}

fn run(folder: &Path, name: &str, flags: &[&str]) -> Value {
    let video = folder.join(name);
    generate(&video, &[&SHORT[..], flags].concat());
    sidecar(&video)
}

#[test]
fn a_lora_changes_the_video_by_its_strength_and_is_recorded_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let lora = save(&folder.path().join("style.safetensors"), "diffusion_model.");
    let lora = text(&lora);
    let plain = run(folder.path(), "plain.mp4", &[]);
    assert!(plain["settings"]["lora"].is_null());
    let whole = run(folder.path(), "whole.mp4", &["--lora", lora]);
    let recorded = &whole["settings"]["lora"][0];
    assert_eq!(
        (&recorded["strength"], recorded["sha256"].as_str().unwrap().len()),
        (&json!(1.0), 64)
    );
    assert_eq!(whole["origins"]["lora"], "request");
    let hash = |report: &Value| report["latents_hash"].clone();
    assert_ne!(hash(&whole), hash(&plain));
    let none = run(folder.path(), "none.mp4", &["--lora", &format!("{lora}=0")]);
    assert_eq!(hash(&none), hash(&plain));
    // The same file twice counts twice.
    let (half, twice) = (format!("{lora}=0.5"), format!("{lora}=1"));
    let both = run(folder.path(), "both.mp4", &["--lora", &half, "--lora", &half]);
    let one = run(folder.path(), "one.mp4", &["--lora", &twice]);
    assert_eq!(hash(&one), hash(&whole));
    assert_ne!(hash(&both), hash(&plain));
}

#[test]
fn a_run_with_a_lora_is_made_again_with_the_same_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("loras")).unwrap();
    let lora = save(&path("style.safetensors"), "");
    run(folder.path(), "out.mp4", &["--lora", text(&lora)]);
    let again = |flags: &[&str]| {
        let base = ["generate", "--progress", "quiet", "--reproduce", "out.json"];
        let output =
            Command::new(program()).args(base).args(flags).current_dir(folder.path()).output();
        let output = output.unwrap();
        (output.status.code(), error_text(&output))
    };
    let (code, said) = again(&["--save_file", "again.mp4"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("equal the recorded ones bit for bit"), "{said}");
    fs::rename(&lora, path("loras/renamed.safetensors")).unwrap();
    let (code, said) = again(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--lora") && said.contains("--given_dir"), "{said}");
    let (code, said) = again(&["--given_dir", "loras", "--save_file", "found.mp4"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_lora_that_does_not_belong_is_refused_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = save(&path("good.safetensors"), "");
    let strange = save(&path("strange.safetensors"), "double_");
    let refused = |lora: &str, code: i32, facts: &[&str]| {
        let video = path("no.mp4");
        let flags =
            ["generate", "--progress", "quiet", "--save_file", text(&video), "--lora", lora];
        let output = wan(&[&flags[..], &SHORT].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        facts.iter().for_each(|fact| assert!(said.contains(fact), "{fact}: {said}"));
        assert!(!video.exists() && !path("no.run").exists(), "{said}");
    };
    refused(&format!("{}@high", text(&good)), 2, &["--lora", "two experts"]);
    refused("nowhere.safetensors", 2, &["--lora", "nowhere.safetensors"]);
    refused(&format!("{}=nan", text(&good)), 2, &["--lora", "strength"]);
    refused(text(&strange), 3, &["strange.safetensors", "another model", "double_blocks.0"]);
    let whole = demo_folder().join("transformer/diffusion_pytorch_model.safetensors");
    refused(text(&whole), 3, &["a whole network rather than a LoRA"]);
}

#[test]
fn a_lora_of_few_steps_brings_its_publishers_figures_unless_the_request_has_others() {
    let folder = tempfile::tempdir().unwrap();
    let name = "Wan2.2-Lightning_T2V-4steps-lora.safetensors";
    let lora = save(&folder.path().join(name), "");
    let flags = ["--frame_num", "5", "--size", "32*32", "--cache", "none", "--lora", text(&lora)];
    generate(&folder.path().join("out.mp4"), &flags);
    let report = sidecar(&folder.path().join("out.mp4"));
    for (field, value) in [
        ("sample_steps", json!(4)),
        ("sample_guide_scale", json!(1.0)),
        ("sample_shift", json!(5.0)),
    ] {
        assert_eq!(report["settings"][field], value, "{field}");
        assert_eq!(report["origins"][field], "lora", "{field}");
    }
    let own = [&flags[..], &["--sample_steps", "2"]].concat();
    generate(&folder.path().join("own.mp4"), &own);
    let report = sidecar(&folder.path().join("own.mp4"));
    assert_eq!(report["settings"]["sample_steps"], 2);
    assert_eq!(report["origins"]["sample_steps"], "request");
}
