//! What a sampler may ask of the host beside a velocity.

use candle_core::Tensor;
use wan_host::parts::RunContext;
use wan_host::{Cancel, Model, Request};

use crate::support::{
    bits, demo_model_with, error_text, fixture, registry, sample, short_request, wan,
};

fn model() -> Model {
    let mut registry = registry();
    registry.add_file(&fixture("extension")).unwrap();
    demo_model_with(registry)
}

/// The fixture's sampler fails where a frame that it has not asked for is not zero, or one that it
/// has asked for is.
#[test]
fn frames_that_are_not_asked_for_come_back_as_zeros() {
    let request = Request { sample_guide_scale: Some(1.0), ..short_request().sample_steps(2) };
    let sampled = sample(&model(), &request.sampler("selective")).unwrap();
    // Four rounds of three frames, of which two are asked for, then one.
    assert_eq!((sampled.frames.asked, sampled.frames.computed), (2 * (2 + 1), 4 * 3));
}

#[test]
fn latents_go_through_the_vae_and_back() {
    let model = model();
    let request = short_request().sample_steps(2).sampler("reencodes");
    let settings = model.settle(&request).unwrap();
    let conditions = model.encode(&settings, &Cancel::default()).unwrap();
    let mut run = model.run_in(&settings, conditions, &RunContext::default()).unwrap();
    run.round().unwrap();
    let before = run.latents().unwrap();
    let ended = run.finish_with(&mut |_| {}).unwrap().latents;

    // The same by hand: pixels of the latents, taken as a given clip.
    let pixels = model.decode(&settings, &before, &Cancel::default()).unwrap();
    assert_eq!(pixels.collect_frames().unwrap().frames(), 9);
    let plain = sample(&model, &request.sampler("euler")).unwrap().latents;
    assert_eq!(plain.dims(), ended.dims());
    let distance = |a: &Tensor, b: &Tensor| {
        let squares = (a - b).unwrap().sqr().unwrap().mean_all().unwrap();
        squares.to_scalar::<f32>().unwrap().sqrt()
    };
    // It went through pixels, so it is another one, and not far from the first.
    let apart = distance(&plain, &ended);
    let size = distance(&plain, &plain.zeros_like().unwrap());
    assert!(apart > 0.0 && apart < 2.0 * size, "{apart} of {size}");
}

#[test]
fn a_sampler_that_asks_for_a_store_is_told_that_there_is_none_and_may_go_on() {
    let model = model();
    let request = short_request().sample_steps(2);
    // One window, the same steps.
    let plain = sample(&model, &request.clone().sampler("day")).unwrap().latents;
    let kept = sample(&model, &request.sampler("keeps-keys")).unwrap().latents;
    assert!(bits(&kept) == bits(&plain));
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
