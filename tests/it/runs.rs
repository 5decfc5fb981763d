//! A run is a thing of its own: it is stepped, it waits for an expert, it goes on beside others.

use candle_core::{Device, Tensor};
use serde_json::json;
use wan_host::Error;
use wan_host::cancel::Cancel;
use wan_host::given::GivenFrames;
use wan_host::model_folder::ModelFolder;
use wan_host::pipeline::{Pipeline, Surroundings};
use wan_host::record::EvaluationRecord;
use wan_host::registry::Registry;
use wan_host::run::Run;
use wan_host::settings::{Precision, Settings};
use wan_tests::tiny_model::TinyModel;

use crate::support::{choice, demo_model, fixture, registry, short_settings, surroundings};

fn is_send<T: Send + 'static>() {}
fn is_shared<T: Send + Sync>() {}

#[test]
fn a_run_can_go_to_another_thread_and_a_model_serves_several() {
    is_send::<Run>();
    is_shared::<Pipeline>();
    is_shared::<Registry>();
}

fn begin(pipeline: &Pipeline, registry: &Registry, settings: &Settings) -> Run {
    let conditions =
        pipeline.conditions(settings, &GivenFrames::default(), &Cancel::default()).unwrap();
    pipeline.run(settings, conditions, &surroundings(registry, settings)).unwrap()
}

fn bits(latents: &Tensor) -> Vec<u32> {
    let values = latents.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn to_the_end(mut run: Run) -> Vec<u32> {
    while run.round_wait().unwrap().is_some() {}
    bits(&run.finish().unwrap().latents)
}

/// Settings that differ in everything that a run keeps for itself.
fn two_settings() -> [Settings; 2] {
    let first = Settings {
        cache: Some(choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))])),
        ..short_settings()
    };
    let second = Settings {
        base_seed: 8,
        prompt: "a small blue box moving left over a beach".into(),
        sampler: choice("diffusion-forcing", &[]),
        cache: Some(choice("forecast", &[])),
        sample_guide_scale: 4.0,
        ..short_settings()
    };
    [first, second]
}

#[test]
fn two_runs_at_once_on_one_model_are_two_in_a_row() {
    let (pipeline, registry) = (demo_model(), registry());
    let settings = two_settings();
    let alone = settings.each_ref().map(|s| to_the_end(begin(&pipeline, &registry, s)));
    assert_ne!(alone[0], alone[1]);

    let runs = settings.each_ref().map(|s| begin(&pipeline, &registry, s));
    let threads = runs.map(|run| std::thread::spawn(move || to_the_end(run)));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), alone, "on two threads");

    let mut runs = settings.each_ref().map(|s| begin(&pipeline, &registry, s));
    loop {
        let [first, second] = runs.each_mut().map(|run| run.round().unwrap().is_some());
        if !first && !second {
            break;
        }
    }
    assert_eq!(runs.map(|run| bits(&run.finish().unwrap().latents)), alone, "in turn");
}

/// A tiny model with two experts, of which one may be loaded, and settings for it.
fn one_of_two_fits() -> (tempfile::TempDir, Pipeline, Settings) {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::t2v_a14b().write(folder.path()).unwrap();
    let opened = ModelFolder::open(folder.path()).unwrap();
    let pipeline = Pipeline::load(&opened, &Device::Cpu, Precision::default()).unwrap();
    let settings = Settings { prompt: "a red ball".into(), ..short_settings() };
    (folder, pipeline.with_resident_experts(1), settings)
}

#[test]
fn runs_in_turn_wait_for_the_expert_that_has_to_go_first() {
    let (_folder, pipeline, settings) = one_of_two_fits();
    let registry = registry();
    let other = Settings { base_seed: 8, sample_steps: 9, ..settings.clone() };
    let alone = [&settings, &other].map(|s| to_the_end(begin(&pipeline, &registry, s)));
    assert_eq!(pipeline.resident_experts(), 1);

    let mut runs = [&settings, &other].map(|s| begin(&pipeline, &registry, s));
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
            assert_eq!(pipeline.resident_experts(), 1);
        }
    }
    assert!(busy > 0, "nobody had to wait: nothing is shown");
    assert_eq!(runs.map(|run| bits(&run.finish().unwrap().latents)), alone);
}

#[test]
fn runs_on_threads_of_their_own_wait_until_the_expert_comes() {
    let (_folder, pipeline, settings) = one_of_two_fits();
    let registry = registry();
    let other = Settings { base_seed: 8, sample_steps: 9, ..settings.clone() };
    let alone = [&settings, &other].map(|s| to_the_end(begin(&pipeline, &registry, s)));
    let runs = [&settings, &other].map(|s| begin(&pipeline, &registry, s));
    let threads = runs.map(|run| std::thread::spawn(move || to_the_end(run)));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), alone);
    assert_eq!(pipeline.resident_experts(), 1);
}

#[test]
fn a_run_that_waits_can_be_stopped() {
    let (_folder, pipeline, settings) = one_of_two_fits();
    let registry = registry();
    // The first one stands before its last round, with the second expert.
    let mut first = begin(&pipeline, &registry, &settings);
    for _ in 1..settings.sample_steps {
        first.round().unwrap().unwrap();
    }
    let around = surroundings(&registry, &settings);
    let cancel = around.cancel.clone();
    let conditions = pipeline.conditions(&settings, &GivenFrames::default(), &cancel).unwrap();
    let mut second = pipeline.run(&settings, conditions, &around).unwrap();
    assert!(matches!(second.round(), Err(Error::Busy)));
    let waits = std::thread::spawn(move || second.round_wait().map(|_| ()));
    cancel.cancel();
    assert!(matches!(waits.join().unwrap(), Err(Error::Cancelled)));
    while first.round().unwrap().is_some() {}
    first.finish().unwrap();
}

#[test]
fn what_went_wrong_is_named_after_whoever_it_happened_to() {
    let pipeline = demo_model();
    let mut registry = registry();
    registry.add_file(&fixture("panics")).unwrap();
    for at in ["decide", "store"] {
        let cache = Some(choice("panicking-cache", &[("at", json!(at))]));
        let settings = Settings { cache, ..short_settings() };
        let mut run = begin(&pipeline, &registry, &settings);
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
    let (pipeline, registry) = (demo_model(), registry());
    let settings = Settings { sample_steps: 1, ..short_settings() };
    let mut run = begin(&pipeline, &registry, &settings);
    while run.round().unwrap().is_some() {}
    let latents = run.finish().unwrap().latents;
    let cancel = Cancel::default();
    let decoding = pipeline.decode(&latents, None, &cancel).unwrap();
    assert_eq!(decoding.latent_frames(), 3);
    let frames: Vec<usize> = decoding.map(|frames| frames.unwrap().frames()).collect();
    assert_eq!(frames, [1, 4, 4]);

    let mut decoding = pipeline.decode(&latents, None, &cancel).unwrap();
    decoding.next().unwrap().unwrap();
    cancel.cancel();
    assert!(matches!(decoding.next(), Some(Err(Error::Cancelled))));
    assert!(decoding.next().is_none());
}

#[test]
fn encoding_can_be_stopped() {
    let (pipeline, registry) = (demo_model(), registry());
    let settings = short_settings();
    let around: Surroundings<'_> = surroundings(&registry, &settings);
    around.cancel.cancel();
    let given = GivenFrames::default();
    let stopped = pipeline.sample(&settings, &given, &around, &mut |_| {});
    assert!(matches!(stopped, Err(Error::Cancelled)));
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
fn saved_and_resumed(settings: &Settings) {
    let (pipeline, registry) = (demo_model(), registry());
    let (given, cancel) = (GivenFrames::default(), Cancel::default());
    let conditions = pipeline.conditions(settings, &given, &cancel).unwrap();
    let around = surroundings(&registry, settings);
    let mut run = pipeline.run(settings, conditions.clone(), &around).unwrap();
    let mut states = vec![run.state().unwrap()];
    while run.round().unwrap().is_some() {
        states.push(run.state().unwrap());
    }
    let whole = outcome(run);
    let reused = whole.1.iter().filter(|line| line.contains("Reuse")).count();
    assert!(settings.cache.is_none() || reused > 0, "{:?} reuses nothing", settings.cache);
    for state in states {
        let conditions = conditions.clone();
        let resumed = pipeline.resume(settings, conditions, &around, &state).unwrap();
        let cache = &settings.cache;
        assert!(outcome(resumed) == whole, "{cache:?} after {} rounds", state.rounds_done());
    }
}

#[test]
fn a_run_goes_on_to_the_bit_from_before_every_round_with_every_cache() {
    let teacache = [("threshold", json!(0.3)), ("retention", json!(1))];
    let table = ("table", json!("t2v-1.3b"));
    let magcache = [table, ("threshold", json!(0.5)), ("retention", json!(1))];
    for cache in [
        None,
        Some(choice("teacache", &teacache)),
        Some(choice("teacache-half", &teacache)),
        Some(choice("first-block", &[("threshold", json!(0.5))])),
        Some(choice("easycache", &[("threshold", json!(0.5)), ("retention", json!(1))])),
        Some(choice("magcache", &magcache)),
        Some(choice("forecast", &[("computes", json!([0.0, 1.0, 4.0]))])),
    ] {
        saved_and_resumed(&Settings { cache, ..short_settings() });
    }
}

#[test]
fn a_run_goes_on_to_the_bit_in_the_second_window_of_a_long_video() {
    let options = [("base_num_frames", json!(9)), ("overlap_history", json!(5))];
    let options = [&options[..], &[("ar_step", json!(1))]].concat();
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    saved_and_resumed(&Settings {
        frame_num: 17,
        sample_steps: 4,
        sampler: choice("diffusion-forcing", &options),
        cache: Some(cache),
        ..short_settings()
    });
}

#[test]
fn a_state_is_of_one_schedule_and_of_strategies_that_keep_theirs() {
    let (pipeline, mut registry) = (demo_model(), registry());
    registry.add_file(&fixture("spy")).unwrap();
    let settings = short_settings();
    let mut run = begin(&pipeline, &registry, &settings);
    run.round().unwrap();
    let state = run.state().unwrap();
    let (given, cancel) = (GivenFrames::default(), Cancel::default());
    let other = Settings { sample_steps: 5, ..settings.clone() };
    let conditions = pipeline.conditions(&other, &given, &cancel).unwrap();
    let around = surroundings(&registry, &other);
    let error = pipeline.resume(&other, conditions, &around, &state).err().unwrap();
    assert!(error.to_string().contains("another schedule, of 6 rounds; this one has 5"), "{error}");

    let spied = Settings { cache: Some(choice("spy", &[])), ..settings };
    let mut run = begin(&pipeline, &registry, &spied);
    let error = run.state().err().unwrap().to_string();
    assert!(error.starts_with("spy does not answer wan.state/1"), "{error}");
    run.round().unwrap().unwrap();
}
