//! A run is a thing of its own: it is stepped, it waits for an expert, it goes on beside others.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;
use serde_json::json;
use wan_host::parts::{DecisionCount, EvaluationRecord, RunContext, Seen, Witness};
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
            let before = bits(&run.latents().unwrap());
            match run.round() {
                Ok(Some(_)) => going += 1,
                Ok(None) => {}
                Err(Error::Busy) => {
                    assert_eq!(bits(&run.latents().unwrap()), before, "nothing has changed");
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
    (bits(&sampled.latents), decisions(&sampled.records))
}

fn decisions(records: &[EvaluationRecord]) -> Vec<String> {
    let decided = |r: &EvaluationRecord| {
        let measured: Vec<u64> = r.measured.iter().map(|m| m.to_bits()).collect();
        format!("{} {} {} {:?} {measured:x?}", r.round, r.evaluation, r.branch, r.choice)
    };
    records.iter().map(decided).collect()
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
    saved_and_resumed(&by_windows(17));
}

/// A long video by windows, asynchronously, with a cache.
fn by_windows(frames: usize) -> Request {
    let options = [("base_num_frames", json!(9)), ("overlap_history", json!(5))];
    let options = [&options[..], &[("ar_step", json!(1))]].concat();
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    let request = short_request().frame_num(frames).sample_steps(4);
    with_cache(with_sampler(request, choice("diffusion-forcing", &options)), cache)
}

#[test]
fn what_a_run_hands_out_is_the_whole_and_what_it_holds_is_a_window() {
    let (model, context) = (demo_model(), RunContext::default());
    let settings = model.settle(&by_windows(33)).unwrap();
    let conditions = model.encode(&settings, &context.cancel).unwrap();
    let whole = outcome(model.run_in(&settings, conditions.clone(), &context).unwrap());

    let mut run = model.run_in(&settings, conditions.clone(), &context).unwrap();
    run.keep_boundary();
    let (mut frames, mut records, mut most) = (Vec::new(), Vec::new(), 0);
    let mut take = |run: &mut Run| {
        let out = run.hand_out().unwrap();
        assert_eq!(out.first, frames.len());
        frames.extend(out.frames);
        records.extend(out.records);
    };
    take(&mut run);
    while run.round().unwrap().is_some() {
        take(&mut run);
        // Goes on from a state without what was handed out.
        let state = run.state().unwrap();
        run = model.resume(&settings, conditions.clone(), &context, &state).unwrap();
        run.keep_boundary();
        most = most.max(state.bytes());
    }
    let rest = run.finish().unwrap();
    assert_eq!((rest.latents.dims()[2], rest.records.len()), (0, 0));
    assert!(rest.boundary_bytes_max > 0);
    assert_eq!(rest.decisions.all(), DecisionCount::of(&records, None));
    assert!(frames.iter().all(|(_, sigma)| *sigma == 0.0));
    let latents: Vec<&Tensor> = frames.iter().map(|(latents, _)| latents).collect();
    let sampled = bits(&Tensor::cat(&latents, 2).unwrap());
    assert!(sampled == whole.0 && decisions(&records) == whole.1);

    // Three latent frames of a window: what a state holds does not grow with the video.
    let settings = model.settle(&by_windows(65)).unwrap();
    let mut run = model.run_in(&settings, conditions, &context).unwrap();
    while run.round().unwrap().is_some() {
        run.hand_out().unwrap();
        assert!(run.state().unwrap().bytes() <= most, "{most}");
    }
}

/// Stops a run in the middle of a round.
struct Stopper {
    cancel: Cancel,
    /// Evaluations of a branch until then.
    evaluations: usize,
}

impl Witness for Stopper {
    fn see(&mut self, _: &Seen<'_>) -> wan_host::Result<()> {
        self.evaluations -= 1;
        if self.evaluations == 0 {
            self.cancel.cancel();
        }
        Ok(())
    }
}

#[test]
fn a_round_that_was_stopped_is_thrown_away_and_the_run_goes_on_from_before_it() {
    let model = demo_model();
    let (settings, cancel) = (model.settle(&by_windows(17)).unwrap(), Cancel::default());
    let conditions = model.encode(&settings, &cancel).unwrap();
    let calm = RunContext::default();
    let whole = outcome(model.run_in(&settings, conditions.clone(), &calm).unwrap());
    for after in [1, 2, 3, 6, 11] {
        let cancel = Cancel::default();
        let stopper = Stopper { cancel: cancel.clone(), evaluations: after };
        let context =
            RunContext { cancel, witness: Some(Arc::new(Mutex::new(stopper))), ..calm.clone() };
        let mut run = model.run_in(&settings, conditions.clone(), &context).unwrap();
        run.keep_boundary();
        let stopped = std::iter::repeat_with(|| run.round()).find_map(Result::err).unwrap();
        assert!(matches!(stopped, Error::Cancelled));
        let state = run.state().unwrap();
        assert_eq!(state.rounds_done(), after / 2, "two branches a round");
        let resumed = model.resume(&settings, conditions.clone(), &calm, &state).unwrap();
        assert!(outcome(resumed) == whole, "stopped in evaluation {after}");
    }
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
