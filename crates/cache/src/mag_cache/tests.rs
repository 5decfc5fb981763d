use serde::Deserialize;
use serde_json::json;
use wan_plugin_api::FrameLevel;

use super::ratios::resample;
use super::*;
use crate::fixture::{Moment, context, falling, moments, run};
use crate::{HalfMemory, HalfOptions, Store};

/// A context that takes the table by name, `first` evaluations being the first expert's.
fn stream(steps: u32, branch: &str, first: u32, expert: u32) -> CacheContext {
    let mut context = context(steps);
    (context.branch, context.timesteps_max) = (branch.into(), 1);
    if first > 0 {
        (context.experts, context.expert) = (2, expert);
        let rest = steps - first;
        (context.evaluations_before, context.evaluations, context.evaluations_after) =
            if expert == 0 { (0, first, rest) } else { (first, rest, 0) };
    }
    context
}

fn decide(options: &MagCacheOptions, context: &CacheContext, stream: &[Moment]) -> String {
    run(MagCache::new(options.clone(), context).unwrap(), stream).decisions
}

fn flat(evaluations: u32) -> Vec<Moment> {
    moments(falling(evaluations as usize, true), |_| vec![], |i| vec![i as f32, 1.0])
}

/// Decisions of MagCache's own code at df81cb1, lines cut out and executed by
/// `tools/record_cache_logs`; there too each expert begins with error 0.
#[test]
fn it_decides_as_the_reference_did() {
    #[derive(Deserialize)]
    struct Logs {
        cases: Vec<Log>,
    }
    #[derive(Deserialize)]
    struct Log {
        table: String,
        steps: u32,
        /// Steps of the first expert; 0: there is one.
        high: u32,
        cond: String,
        uncond: String,
    }
    let logs: Logs = serde_json::from_str(include_str!("logs.json")).unwrap();
    assert_eq!(logs.cases.len(), 7);
    for log in logs.cases {
        let options = MagCacheOptions { table: log.table.clone(), ..MagCacheOptions::default() };
        for (branch, expected) in [("cond", &log.cond), ("uncond", &log.uncond)] {
            let experts: &[u32] = if log.high > 0 { &[0, 1] } else { &[0] };
            let decisions: String = experts
                .iter()
                .map(|expert| {
                    let mut context = stream(log.steps, branch, log.high, *expert);
                    if log.table == "i2v-a14b" {
                        context.model.in_channels = 36;
                    }
                    decide(&options, &context, &flat(context.evaluations))
                })
                .collect();
            assert_eq!(&decisions, expected, "{} at {} steps, {branch}", log.table, log.steps);
        }
    }
}

#[test]
fn a_column_takes_the_nearest_entries_ties_to_even() {
    let table = [0.0, 1.0, 2.0, 3.0, 4.0];
    // 4 / 8 a step: 0.5 goes to 0, 1.5 to 2, 2.5 to 2, 3.5 to 4.
    assert_eq!(resample(&table, 9), [0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0]);
    assert_eq!(resample(&table, 3), [0.0, 2.0, 4.0]);
    assert_eq!(resample(&table, 1), [4.0]);
}

/// Ratios of a tenth less each step: errors 0.1, 0.19, 0.271.
fn tenths() -> MagCacheOptions {
    let file = json!({
        "schema": 1,
        "model": { "dim": 1, "layers": 1, "in_channels": 16 },
        "steps": 8,
        "ratios": { "cond": [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9] },
    });
    MagCacheOptions {
        calibration: file,
        threshold: 0.3,
        retention_ratio: 0.0,
        max_skips: 0,
        ..MagCacheOptions::default()
    }
}

#[test]
fn errors_add_up_to_the_threshold() {
    // 0.1 + 0.19 is below 0.3; with 0.271 it is not.
    assert_eq!(decide(&tenths(), &context(8), &flat(8)), "CssCssCs");
    let two = MagCacheOptions { max_skips: 1, last: 2, ..tenths() };
    assert_eq!(decide(&two, &context(8), &flat(8)), "CsCsCsCC");
    let off = MagCacheOptions { threshold: 0.0, table: "auto".into(), ..Default::default() };
    let cache = MagCache::new(off.clone(), &context(4)).unwrap();
    assert_eq!(cache.plan().bytes_max, 0);
    assert_eq!(decide(&off, &context(4), &flat(4)), "CCCC");
}

#[test]
fn a_clean_prefix_changes_nothing() {
    let alone = decide(&tenths(), &context(8), &flat(8));
    let prefixed = moments(falling(8, false), |_| vec![], |i| vec![i as f32, 1.0]);
    assert_eq!(decide(&tenths(), &context(8), &prefixed), alone);
}

#[test]
fn each_frame_reads_the_column_at_its_own_step() {
    let file = json!({
        "schema": 1,
        "model": { "dim": 1, "layers": 1, "in_channels": 16 },
        "steps": 4,
        "ratios": { "cond": [1.0, 0.9, 0.8, 0.5] },
    });
    let options = MagCacheOptions { calibration: file, threshold: 10.0, ..tenths() };
    // The second frame starts two evaluations after the first.
    let at = |i: usize, start: usize, frame: u32| match i >= start && i < start + 4 {
        true => FrameLevel::moving(frame, 500.0, 0.5, 0.4),
        false => FrameLevel::frozen(frame, 500.0, 0.5),
    };
    let levels = (0..6).map(|i| vec![at(i, 0, 0), at(i, 2, 1)]).collect();
    let mut context = context(6);
    context.steps = 4;
    let cache = MagCache::new(options, &context).unwrap();
    let outcome = run(cache, &moments(levels, |_| vec![], |i| vec![i as f32, 1.0]));
    let errors: Vec<f64> = outcome.measured.iter().map(|m| m[0]).collect();
    // First frame: 0.9, 0.72, 0.36. Second: 1, 0.9, 0.72, 0.36.
    let expected = [0.0, 0.1, (0.28 + 0.0) / 2.0, (0.64 + 0.1) / 2.0, 0.28, 0.64];
    for (error, expected) in errors.iter().zip(expected) {
        assert!((error - expected).abs() < 1e-12, "{errors:?}");
    }
}

#[test]
fn a_model_without_a_table_is_told_what_to_do() {
    let error = MagCache::new(MagCacheOptions::default(), &context(8)).err().unwrap();
    assert!(error.message.contains("dim 1, 1 layers and 16 input channels (one transformer)"));
    assert!(error.message.contains("make one with `wan cache calibrate`"), "{error}");
    let both = MagCacheOptions { table: "t2v-14b".into(), ..tenths() };
    assert!(MagCache::new(both, &context(8)).err().unwrap().message.contains("give one of them"));
}

#[test]
fn half_keeps_half_and_refuses_to_halve_what_it_does_not_read() {
    let half = |store| HalfOptions { store, inner: tenths() };
    let cache = HalfMemory::<MagCache>::new(half(Store::Residual), &context(8)).unwrap();
    assert_eq!(cache.plan().bytes_max, 4);
    let outcome = run(cache, &flat(8));
    assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CssCssCs", 4));
    let error = HalfMemory::<MagCache>::new(half(Store::Signal), &context(8)).err().unwrap();
    assert!(error.message.starts_with("magcache reads no signal"), "{error}");
    let full = MagCache::new(tenths(), &context(8)).unwrap();
    assert_eq!(full.plan().bytes_max, 8);
    assert_eq!(run(full, &flat(8)).held_max, 8);
}

#[test]
fn another_shape_computes_and_recovers() {
    let mut stream = flat(8);
    stream[2].computed = vec![1.0; 4];
    // The residual of another width is not reused, and the next evaluation has the old one again.
    assert_eq!(decide(&tenths(), &context(8), &stream), "CsCCssCs");
}
