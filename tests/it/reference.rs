//! The demo model against diffusers: the run that is recorded in its `reference.safetensors`.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use wan_host::Cancel;
use wan_host::parts::{Noise, RunContext};

use crate::support::{choice, demo_folder, demo_model, short_request, with_sampler};

fn reference() -> HashMap<String, Tensor> {
    let path = demo_folder().join("reference.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// `max |a - b| / max |b|`.
fn relative_error(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    largest(&(a - b).unwrap()) / largest(b)
}

#[test]
fn prompt_embeddings_equal_the_reference() {
    let (model, reference) = (demo_model(), reference());
    for (prompt, name) in [
        (short_request().prompt.unwrap(), "prompt_embeds"),
        (String::new(), "negative_prompt_embeds"),
    ] {
        let embeds = model.encode_prompt(&prompt).unwrap();
        assert!(relative_error(&embeds, &reference[name]) < 8e-6, "{name}");
    }
}

#[test]
fn latents_and_frames_equal_the_reference() {
    let (model, reference) = (demo_model(), reference());
    let euler = choice("euler", &[("timesteps", serde_json::json!("wan"))]);
    let request = with_sampler(short_request().frame_num(33).sample_steps(25), euler);
    let settings = model.settle(&request).unwrap();
    let noise = Noise::new(settings.base_seed);
    for frame in 0..9 {
        let frame_noise = reference["noise"].narrow(2, frame, 1).unwrap();
        noise.inject(Noise::INITIAL_LATENTS, frame as u64, frame_noise);
    }
    let context = RunContext { noise: Some(noise), ..RunContext::default() };
    let sampled = model.sample(&settings, &context).unwrap();
    let error = relative_error(&sampled.latents, &reference["latents"]);
    assert!(error < 2e-5, "latents: {error:e}");

    let decoding = model.decode(&settings, &sampled.latents, &Cancel::default()).unwrap();
    let frames = decoding.collect_frames().unwrap();
    let video = reference["video"].permute((1, 2, 3, 0)).unwrap(); // [T, H, W, 3]
    let video = video.to_dtype(DType::U8).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let worst = frames.rgb().iter().zip(&video).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "frames: {worst:?} of 255");
    // Rounded as the reference rounds: a byte is off only where the two lie at its very edge.
    let off = frames.rgb().iter().zip(&video).filter(|(a, b)| a != b).count();
    assert!(off * 200 < video.len(), "{off} of {} bytes are off by one", video.len());
}
