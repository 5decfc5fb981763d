//! Schedules that a sampler gives in parts.

use serde_json::json;
use wan_host::parts::{Kind, RunContext};
use wan_host::{Cancel, Model, Request, Run, Turn};
use wan_plugin_api::{OptionValues, SampleRequest};

use crate::support::{
    bits, choice, extended_models, fixture, latent_bits, registry, short_request, with_cache,
    with_sampler,
};

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
    let mut wholes = Vec::new();
    for (door, model) in extended_models() {
        let whole = latent_bits(&model, &cached(0));
        let sidecar = |part| model.generate(&cached(part)).unwrap().sidecar;
        for part in [1, 2, 3, 4, 7] {
            assert_eq!(latent_bits(&model, &cached(part)), whole, "{door}: parts of {part}");
        }
        assert_eq!(sidecar(2).evaluations, sidecar(0).evaluations, "{door}");
        let plan = |part| model.plan(&model.settle(&cached(part)).unwrap()).unwrap();
        assert_eq!(plan(2), plan(0), "{door}");
        wholes.push(whole);
    }
    assert_eq!(wholes[0], wholes[1]);
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
    for (door, model) in extended_models() {
        let [parts, whole] = [2, 0].map(|part| {
            let (mut run, _) = begin(&model, &request(part));
            for _ in 0..2 {
                run.round().unwrap();
            }
            run.finish_early().unwrap()
        });
        assert_eq!(bits(&parts.latents), bits(&whole.latents), "{door}");
        assert_eq!(parts.ends_at, whole.ends_at, "{door}");
        assert_eq!(parts.ends_at[3..], [1.0, 1.0], "{door}");
        assert!(parts.ends_at[0] > 0.0 && parts.ends_at[0] < 1.0, "{door}");
    }
}

#[test]
fn a_schedule_or_a_step_that_lies_ends_the_run_and_names_the_sampler() {
    for (door, model) in extended_models() {
        for (about, expected) in [
            ("rounds", "round 5: 0 rounds"),
            ("evaluations", "has ScheduleSize { rounds: 2, evaluations: 4 }"),
            ("size", "each round has one at least"),
            ("window", "more than 65536 rounds came over the window at frame 0"),
            ("blocks", "blocks of 0 frames"),
            ("stop", "says that the run was stopped, which nobody has done"),
            ("format", "in F32 gave [1, 16, 3, 8, 8] in F8E4M3"),
        ] {
            let options = [("part", json!(2)), ("about", json!(about))];
            let lies = with_sampler(request(0), choice("lies", &options));
            let error = model.generate(&lies).map(|_| ()).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("lies") && said.contains(expected), "{door}, {about}: {said}");
            assert_eq!(error.turn(), Turn::Strategy, "{door}, {about}: {said}");
        }
    }
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
