//! Schedules that a sampler gives in parts.

use serde_json::json;
use wan_host::parts::{Kind, RunContext};
use wan_host::{Cancel, Model, Request, Run};
use wan_plugin_api::{OptionValues, SampleRequest};

use crate::support::{
    bits, choice, demo_model_with, fixture, latent_bits, registry, short_request, with_cache,
    with_sampler,
};

fn model() -> Model {
    let mut registry = registry();
    registry.add_file(&fixture("extension")).unwrap();
    demo_model_with(registry)
}

/// Five latent frames, two windows of three steps.
fn request(part: usize) -> Request {
    let request = short_request().frame_num(17).sample_steps(3);
    with_sampler(request, choice("day", &[("part", json!(part))]))
}

fn cached(part: usize) -> Request {
    with_cache(request(part), choice("easycache", &[("threshold", json!(0.5))]))
}

#[test]
fn a_schedule_in_parts_of_any_size_makes_the_video_of_the_whole() {
    let model = model();
    let whole = latent_bits(&model, &cached(0));
    let sidecar = |part| model.generate(&cached(part)).unwrap().sidecar;
    for part in [1, 2, 3, 4, 7] {
        assert_eq!(latent_bits(&model, &cached(part)), whole, "parts of {part}");
    }
    assert_eq!(sidecar(2).evaluations, sidecar(0).evaluations);
    let plan = |part| model.plan(&model.settle(&cached(part)).unwrap()).unwrap();
    assert_eq!(plan(2), plan(0));
}

fn begin(model: &Model, request: &Request) -> (Run, impl Fn(&mut Run) -> Run) {
    let settings = model.settle(request).unwrap();
    let conditions = model.encode(&settings, &Cancel::default()).unwrap();
    let run = model.run_in(&settings, conditions.clone(), &RunContext::default()).unwrap();
    let model = model.clone();
    let again = move |run: &mut Run| {
        let state = run.state().unwrap();
        model.resume_in(&settings, conditions.clone(), &RunContext::default(), &state).unwrap()
    };
    (run, again)
}

#[test]
fn a_run_ended_early_knows_where_frames_are_that_no_part_has_reached() {
    let (mut run, _) = begin(&model(), &request(2));
    for _ in 0..2 {
        run.round().unwrap();
    }
    let (mut whole, _) = begin(&model(), &request(0));
    for _ in 0..2 {
        whole.round().unwrap();
    }
    let [parts, whole] = [run, whole].map(|run| run.finish_early().unwrap());
    assert_eq!(bits(&parts.latents), bits(&whole.latents));
    assert_eq!(parts.ends_at, whole.ends_at);
    assert_eq!(parts.ends_at[3..], [1.0, 1.0]);
    assert!(parts.ends_at[0] > 0.0 && parts.ends_at[0] < 1.0);
}

#[test]
fn a_part_that_is_missing_ends_the_run_and_names_the_sampler() {
    let model = model();
    let lies = with_sampler(request(0), choice("lies", &[("part", json!(2))]));
    let said = model.generate(&lies).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("lies") && said.contains("round 5: 0 rounds"), "{said}");
}

/// A day at 16 frames a second is 345,600 latent frames; half a million rounds go by while a handful
/// is held.
#[test]
fn a_day_of_video_is_gone_through_in_parts() {
    let mut registry = registry();
    registry.add_file(&fixture("extension")).unwrap();
    let options = OptionValues::from([("part".into(), json!(64))]);
    let day = registry.choose(Kind::Sampler, "day", &options).unwrap();
    let request = SampleRequest {
        frames: 345_601,
        prefix_frames: 0,
        steps: 3,
        shift: 3.0,
        temporal_scale: 4,
    };
    let sampler = day.sampler(&request).unwrap();
    let first = sampler.schedule_from(0).unwrap();
    assert_eq!((first.rounds.len(), first.size().rounds), (64, 518_400));
    let last = sampler.schedule_from(518_399).unwrap();
    assert_eq!(last.rounds.len(), 1);
    assert_eq!(last.rounds[0].levels.last().unwrap().frame, 345_600);
}
