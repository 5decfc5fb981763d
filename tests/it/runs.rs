//! A run is a thing of its own: it is stepped, it waits for an expert, it goes on beside others.

use serde_json::json;
use wan_host::parts::{EvaluationRecord, RunContext};
use wan_host::{Cancel, DeviceChoice, Engine, Error, Model, Request, Run};
use wan_tests::tiny_model::TinyModel;

use crate::support::{
    bits, choice, demo_model, demo_model_with, fixture, registry, short_request, with_cache,
    with_sampler,
};

fn is_send<T: Send + 'static>() {}
fn is_shared<T: Send + Sync>() {}

#[test]
fn a_run_can_go_to_another_thread_and_a_model_serves_several() {
    is_send::<Run>();
    is_shared::<Model>();
    is_shared::<Engine>();
}

fn begin(model: &Model, request: &Request) -> Run {
    let (settings, cancel) = (model.settle(request).unwrap(), Cancel::default());
    let conditions = model.encode(&settings, &cancel).unwrap();
    model.run(&settings, conditions, &cancel).unwrap()
}

fn to_the_end(mut run: Run) -> Vec<u32> {
    while run.round_wait().unwrap().is_some() {}
    bits(&run.finish().unwrap().latents)
}

/// Requests that differ in everything that a run keeps for itself.
fn two_requests() -> [Request; 2] {
    let teacache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    let second = Request {
        prompt: Some("a small blue box moving left over a beach".into()),
        sample_guide_scale: Some(4.0),
        ..short_request().base_seed(8).sampler("diffusion-forcing").cache("forecast")
    };
    [with_cache(short_request(), teacache), second]
}

#[test]
fn two_runs_at_once_on_one_model_are_two_in_a_row() {
    let (model, requests) = (demo_model(), two_requests());
    let alone = requests.each_ref().map(|r| to_the_end(begin(&model, r)));
    assert_ne!(alone[0], alone[1]);

    let runs = requests.each_ref().map(|r| begin(&model, r));
    let threads = runs.map(|run| std::thread::spawn(move || to_the_end(run)));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), alone, "on two threads");

    let mut runs = requests.each_ref().map(|r| begin(&model, r));
    loop {
        let [first, second] = runs.each_mut().map(|run| run.round().unwrap().is_some());
        if !first && !second {
            break;
        }
    }
    assert_eq!(runs.map(|run| bits(&run.finish().unwrap().latents)), alone, "in turn");
}

/// A tiny model with two experts, of which one may be loaded, and a request for it.
fn one_of_two_fits() -> (tempfile::TempDir, Model, Request) {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::t2v_a14b().write(folder.path()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).resident_experts(1);
    let model = engine.build().unwrap().open(folder.path()).unwrap();
    let request = Request { prompt: Some("a red ball".into()), ..short_request() };
    (folder, model, request)
}

#[test]
fn runs_in_turn_wait_for_the_expert_that_has_to_go_first() {
    let (_folder, model, request) = one_of_two_fits();
    let other = request.clone().base_seed(8).sample_steps(9);
    let alone = [&request, &other].map(|r| to_the_end(begin(&model, r)));
    assert_eq!(model.resident_experts(), 1);

    let mut runs = [&request, &other].map(|r| begin(&model, r));
    let (mut busy, mut going) = (0, 2);
    while going > 0 {
        going = 0;
        for run in &mut runs {
            let before = bits(run.latents());
            match run.round() {
                Ok(Some(_)) => going += 1,
                Ok(None) => {}
                Err(Error::Busy) => {
                    assert_eq!(bits(run.latents()), before, "nothing has changed");
                    (busy, going) = (busy + 1, going + 1);
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(model.resident_experts(), 1);
        }
    }
    assert!(busy > 0, "nobody had to wait: nothing is shown");
    assert_eq!(runs.map(|run| bits(&run.finish().unwrap().latents)), alone);
}

#[test]
fn runs_on_threads_of_their_own_wait_until_the_expert_comes() {
    let (_folder, model, request) = one_of_two_fits();
    let other = request.clone().base_seed(8).sample_steps(9);
    let alone = [&request, &other].map(|r| to_the_end(begin(&model, r)));
    let runs = [&request, &other].map(|r| begin(&model, r));
    let threads = runs.map(|run| std::thread::spawn(move || to_the_end(run)));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), alone);
    assert_eq!(model.resident_experts(), 1);
}

#[test]
fn a_run_that_waits_can_be_stopped() {
    let (_folder, model, request) = one_of_two_fits();
    // The first one stands before its last round, with the second expert.
    let mut first = begin(&model, &request);
    for _ in 1..request.sample_steps.unwrap() {
        first.round().unwrap().unwrap();
    }
    let (settings, cancel) = (model.settle(&request).unwrap(), Cancel::default());
    let conditions = model.encode(&settings, &cancel).unwrap();
    let mut second = model.run(&settings, conditions, &cancel).unwrap();
    assert!(matches!(second.round(), Err(Error::Busy)));
    let waits = std::thread::spawn(move || second.round_wait().map(|_| ()));
    cancel.cancel();
    assert!(matches!(waits.join().unwrap(), Err(Error::Cancelled)));
    while first.round().unwrap().is_some() {}
    first.finish().unwrap();
}

#[test]
fn what_went_wrong_is_named_after_whoever_it_happened_to() {
    let mut registry = registry();
    registry.add_file(&fixture("panics")).unwrap();
    let model = demo_model_with(registry);
    for at in ["decide", "store"] {
        let cache = choice("panicking-cache", &[("at", json!(at))]);
        let mut run = begin(&model, &with_cache(short_request(), cache));
        let text = run.round().unwrap_err().to_string();
        assert!(text.starts_with("panicking-cache: "), "{text}");
        // Half a round may be in its sampler.
        let text = run.round().unwrap_err().to_string();
        assert!(text.contains("does not go on"), "{text}");
        assert!(run.finish().is_err());
    }
}

#[test]
fn decoding_gives_a_latent_frame_at_a_time_and_can_be_stopped() {
    let model = demo_model();
    let (request, cancel) = (short_request().sample_steps(1), Cancel::default());
    let mut run = begin(&model, &request);
    while run.round().unwrap().is_some() {}
    let latents = run.finish().unwrap().latents;
    let settings = model.settle(&request).unwrap();
    let decoding = model.decode(&settings, &latents, &cancel).unwrap();
    assert_eq!(decoding.latent_frames(), 3);
    let frames: Vec<usize> = decoding.map(|frames| frames.unwrap().frames()).collect();
    assert_eq!(frames, [1, 4, 4]);

    let mut decoding = model.decode(&settings, &latents, &cancel).unwrap();
    decoding.next().unwrap().unwrap();
    cancel.cancel();
    assert!(matches!(decoding.next(), Some(Err(Error::Cancelled))));
    assert!(decoding.next().is_none());
}

#[test]
fn encoding_can_be_stopped() {
    let model = demo_model();
    let (settings, cancel) = (model.settle(&short_request()).unwrap(), Cancel::default());
    cancel.cancel();
    assert!(matches!(model.encode(&settings, &cancel), Err(Error::Cancelled)));
}

/// Latents, and what was decided in every evaluation.
fn outcome(mut run: Run) -> (Vec<u32>, Vec<String>) {
    while run.round_wait().unwrap().is_some() {}
    let sampled = run.finish().unwrap();
    let decided = |r: &EvaluationRecord| {
        let measured: Vec<u64> = r.measured.iter().map(|m| m.to_bits()).collect();
        format!("{} {} {} {:?} {measured:x?}", r.round, r.evaluation, r.branch, r.choice)
    };
    (bits(&sampled.latents), sampled.records.iter().map(decided).collect())
}

/// Saves a run before every round, and goes on from each.
fn saved_and_resumed(request: &Request) {
    let (model, context) = (demo_model(), RunContext::default());
    let settings = model.settle(request).unwrap();
    let conditions = model.encode(&settings, &context.cancel).unwrap();
    let mut run = model.run_in(&settings, conditions.clone(), &context).unwrap();
    let mut states = vec![run.state().unwrap()];
    while run.round().unwrap().is_some() {
        states.push(run.state().unwrap());
    }
    let whole = outcome(run);
    let reused = whole.1.iter().filter(|line| line.contains("Reuse")).count();
    assert!(settings.cache.is_none() || reused > 0, "{:?} reuses nothing", settings.cache);
    for state in states {
        let conditions = conditions.clone();
        let resumed = model.resume(&settings, conditions, &context, &state).unwrap();
        let cache = &settings.cache;
        assert!(outcome(resumed) == whole, "{cache:?} after {} rounds", state.rounds_done());
    }
}

#[test]
fn a_run_goes_on_to_the_bit_from_before_every_round_with_every_cache() {
    let teacache = [("threshold", json!(0.3)), ("retention", json!(1))];
    let table = ("table", json!("t2v-1.3b"));
    let magcache = [table, ("threshold", json!(0.5)), ("retention", json!(1))];
    saved_and_resumed(&short_request());
    for cache in [
        choice("teacache", &teacache),
        choice("teacache-half", &teacache),
        choice("first-block", &[("threshold", json!(0.5))]),
        choice("easycache", &[("threshold", json!(0.5)), ("retention", json!(1))]),
        choice("magcache", &magcache),
        choice("forecast", &[("computes", json!([0.0, 1.0, 4.0]))]),
    ] {
        saved_and_resumed(&with_cache(short_request(), cache));
    }
}

#[test]
fn a_run_goes_on_to_the_bit_in_the_second_window_of_a_long_video() {
    let options = [("base_num_frames", json!(9)), ("overlap_history", json!(5))];
    let options = [&options[..], &[("ar_step", json!(1))]].concat();
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    let request = short_request().frame_num(17).sample_steps(4);
    let request = with_sampler(request, choice("diffusion-forcing", &options));
    saved_and_resumed(&with_cache(request, cache));
}

#[test]
fn a_state_is_of_one_schedule_and_of_strategies_that_keep_theirs() {
    let mut registry = registry();
    registry.add_file(&fixture("spy")).unwrap();
    let (model, context) = (demo_model_with(registry), RunContext::default());
    let mut run = begin(&model, &short_request());
    run.round().unwrap();
    let state = run.state().unwrap();
    let other = model.settle(&short_request().sample_steps(5)).unwrap();
    let conditions = model.encode(&other, &context.cancel).unwrap();
    let error = model.resume(&other, conditions, &context, &state).err().unwrap();
    assert!(error.to_string().contains("another schedule, of 6 rounds; this one has 5"), "{error}");

    let mut run = begin(&model, &short_request().cache("spy"));
    let error = run.state().err().unwrap().to_string();
    assert!(error.starts_with("spy does not answer wan.state/1"), "{error}");
    run.round().unwrap().unwrap();
}
