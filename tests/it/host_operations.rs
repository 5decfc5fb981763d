//! What a sampler may ask of the host beside a velocity, through each flavour of the door.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use wan_host::parts::{RunContext, Seen, Witness};
use wan_host::{Cancel, Conditions, Model, Request, Result};
use wan_model::vae::Vae;
use wan_model::weights::Scope;

use crate::support::{
    bits, demo_folder, error_text, extended_models, fixture, json_file, sample, short_request, wan,
};

/// The fixture's sampler fails where a frame that it has not asked for is not zero, or one that it
/// has asked for is.
#[test]
fn frames_that_are_not_asked_for_come_back_as_zeros() {
    for (door, model) in extended_models() {
        let request = Request { sample_guide_scale: Some(1.0), ..short_request().sample_steps(2) };
        let sampled = sample(&model, &request.sampler("selective")).unwrap();
        // Four rounds of three frames, of which two are asked for, then one.
        let frames = (sampled.frames.asked, sampled.frames.computed);
        assert_eq!(frames, (2 * (2 + 1), 4 * 3), "{door}");
    }
}

/// The latents that the model was given, evaluation by evaluation.
#[derive(Default)]
struct Samples(Vec<Tensor>);

impl Witness for Samples {
    fn see(&mut self, seen: &Seen<'_>) -> Result<()> {
        if seen.context.branch == "cond" {
            self.0.push(seen.sample.clone());
        }
        Ok(())
    }
}

/// The demo model's VAE, from its files.
fn vae() -> Vae {
    let folder = demo_folder().join("vae");
    let config = serde_json::from_value(json_file(&folder.join("config.json"))).unwrap();
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    let weights = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    Vae::load(config, Scope::new(weights, DType::F32, &Device::Cpu)).unwrap()
}

/// The model sees what a clip becomes that is given: the pixels of the latents, encoded.
fn check_reencoding(model: &Model, vae: &Vae) {
    let request = short_request().sample_steps(2).sampler("reencodes");
    let settings = model.settle(&request).unwrap();
    let (seen, cancel) = (Arc::new(Mutex::new(Samples::default())), Cancel::default());
    let conditions = model.encode(&settings, &cancel).unwrap();
    let context = RunContext { witness: Some(seen.clone()), ..RunContext::default() };
    let mut run = model.run_in(&settings, conditions, &context).unwrap();
    run.round().unwrap();
    let before = run.latents().unwrap();
    run.finish_with(&mut |_| {}).unwrap();
    let pixels = vae.decode(&vae.denormalise(&before).unwrap()).unwrap();
    assert_eq!(pixels.dims(), [1, 3, 9, 64, 64]);
    let by_hand = Conditions::clean_latents_of(vae, &pixels, &cancel).unwrap();
    let seen = &seen.lock().unwrap().0;
    assert_eq!(seen.len(), 2);
    assert!(bits(&seen[1]) == bits(&by_hand), "other latents than those of the pixels");
    assert!(bits(&before) != bits(&by_hand), "nothing went through the pixels");
}

#[test]
fn latents_go_through_the_vae_and_back() {
    let vae = vae();
    for (_, model) in extended_models() {
        check_reencoding(&model, &vae);
    }
}

#[test]
fn a_sampler_that_asks_for_a_store_is_told_that_there_is_none_and_may_go_on() {
    for (door, model) in extended_models() {
        let request = short_request().sample_steps(2);
        // One window, the same steps.
        let plain = sample(&model, &request.clone().sampler("day")).unwrap().latents;
        let kept = sample(&model, &request.sampler("keeps-keys")).unwrap().latents;
        assert!(bits(&kept) == bits(&plain), "{door}");
    }
}

#[test]
fn a_plugin_s_line_is_in_the_program_s_log() {
    let folder = tempfile::tempdir().unwrap();
    let (plugins, video) = (folder.path().join("plugins"), folder.path().join("out.mp4"));
    std::fs::create_dir(&plugins).unwrap();
    let library = fixture("extension");
    std::fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
    let output = wan(&[
        "generate",
        "--save_file",
        video.to_str().unwrap(),
        "--frame_num",
        "5",
        "--sample_steps",
        "1",
        "--sampler",
        "keeps-keys",
        "--cache",
        "none",
        "--plugin_dir",
        plugins.to_str().unwrap(),
    ]);
    let said = error_text(&output);
    assert!(output.status.success(), "{said}");
    let expected = "goes on without: wan.ops.attention/1: this host keeps no keys and values";
    assert_eq!(said.matches(expected).count(), 1, "{said}");
}
