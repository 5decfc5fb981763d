//! Files are known by what they hold: what was fingerprinted is what is loaded.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use wan_host::{DeviceChoice, Engine, Model};

use crate::support::{
    bits, demo_folder, error_text, fixture, program, registry, sample, short_request, sidecar,
};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

/// A copy of the demo model.
fn copy(folder: &Path, name: &str) -> PathBuf {
    let root = folder.join(name);
    for part in ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"] {
        fs::create_dir_all(root.join(part)).unwrap();
        for entry in fs::read_dir(demo_folder().join(part)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), root.join(part).join(entry.file_name())).unwrap();
        }
    }
    root
}

/// Makes the head of a transformer zero, in a file of the same length.
fn change(file: &Path) {
    let mut tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let head = tensors["proj_out.weight"].zeros_like().unwrap();
    tensors.insert("proj_out.weight".into(), head);
    let header: HashMap<String, String> = HashMap::new();
    let bytes = safetensors::serialize(&tensors, Some(header)).unwrap();
    fs::write(file, bytes).unwrap();
}

fn open(root: &Path) -> Model {
    let engine = Engine::builder().registry(registry()).device(DeviceChoice::Cpu);
    engine.build().unwrap().open(root).unwrap()
}

#[test]
fn a_file_that_takes_the_place_of_an_open_one_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (root, other) = (copy(folder.path(), "m"), copy(folder.path(), "other"));
    change(&other.join(TRANSFORMER));
    let request = short_request();
    let expected = bits(&sample(&open(&root), &request).unwrap().latents);
    let model = open(&root);
    let settings = model.settle(&request).unwrap();
    let fingerprint = model.fingerprint().to_string();
    // Between fingerprint and load.
    fs::rename(other.join(TRANSFORMER), root.join(TRANSFORMER)).unwrap();
    let sampled = model.sample(&settings, &Default::default()).unwrap();
    assert_eq!(bits(&sampled.latents), expected, "what was opened is what ran");
    assert_eq!(model.sidecar(&settings, &sampled).unwrap().model.fingerprint, fingerprint);
    assert_ne!(open(&root).fingerprint(), fingerprint, "whoever opens it now has the other");
}

#[test]
fn a_file_that_is_written_to_after_it_was_opened_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let root = copy(folder.path(), "m");
    let model = open(&root);
    let settings = model.settle(&short_request()).unwrap();
    let file = root.join(TRANSFORMER);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    // Times of files may be as coarse as the system's clock tick.
    let opened = fs::metadata(&file).unwrap().modified().unwrap();
    while fs::metadata(&file).unwrap().modified().unwrap() == opened {
        fs::write(&file, &bytes).unwrap();
    }
    let error = model.sample(&settings, &Default::default()).err().unwrap().to_string();
    assert!(error.contains(TRANSFORMER) && error.contains("written to"), "{error}");
}

/// Generates in a folder; `swap` names a file that is replaced once it is opened, and what replaces
/// it.
fn generate(folder: &Path, flags: &[&str], swap: &str) {
    let mut command = Command::new(program());
    command.args(["generate", "--progress", "quiet", "--frame_num", "9", "--sample_steps", "4"]);
    command.args(flags).current_dir(folder);
    command.env("LD_PRELOAD", fixture("faults")).env("WAN_SWAP", swap);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{swap}: {}", error_text(&output));
}

#[test]
fn a_given_file_that_is_replaced_after_it_was_opened_is_known_by_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, color, seed) in [("a", [200, 30, 30], "1"), ("b", [30, 30, 200], "2")] {
        let [png, mp4] = ["png", "mp4"].map(|end| format!("{name}.{end}"));
        image::RgbImage::from_pixel(64, 64, image::Rgb(color)).save(path(&png)).unwrap();
        let save = ["--save_file", &mp4];
        generate(folder.path(), &[&save[..], &["--image", &png]].concat(), ":");
        let half = ["--sampler_option", "end_step=2", "--latents_only", "--base_seed", seed];
        generate(folder.path(), &[&save[..], &half].concat(), ":");
        let latents = path(&format!("{name}.latents.safetensors"));
        fs::rename(latents, path(&format!("{name}.st"))).unwrap();
    }
    let [video, latents] = [["--context_frames", "5"], ["--sampler_option", "start_step=2"]];
    for (field, file, more) in
        [("image", "png", &[][..]), ("video", "mp4", &video), ("latents", "st", &latents)]
    {
        let [given, other] = ["a", "b"].map(|name| format!("{name}.{file}"));
        let flag = format!("--{field}");
        let flags = [&[&flag, &given, "--save_file", "out.mp4", "--overwrite"][..], more].concat();
        let generated = |swap: &str| {
            generate(folder.path(), &flags, swap);
            sidecar(&path("out.mp4"))
        };
        let expected = generated(":");
        let hash = &expected["settings"]["given"]["hashes"][field];
        assert!(hash.is_string(), "{field}");
        let found = generated(&format!("{given}:{other}"));
        assert!(!path(&other).exists(), "{field}: it was swapped");
        assert_eq!(found["settings"]["given"]["hashes"][field], *hash, "{field}");
        assert_eq!(found["latents_hash"], expected["latents_hash"], "{field}");
    }
}
