//! Weights are known by what they hold: what was fingerprinted is what is loaded.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use wan_host::{DeviceChoice, Engine, Model};

use crate::support::{bits, demo_folder, registry, sample, short_request};

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
