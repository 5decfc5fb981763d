use serde::Deserialize;
use wan_plugin_api::FrameLevel;

use super::*;
use crate::fixture::{Moment, context, falling, following, moments, run};
use crate::{HalfMemory, HalfOptions, Store};

fn options(threshold: f64, retention: u32, last: u32) -> EasyCacheOptions {
    EasyCacheOptions {
        threshold,
        scope: Scope::UpdatedFrames,
        limits: LimitOptions { retention, last, max_skips: 0 },
    }
}

/// The first frame's latents grow by a tenth of a unit, and the output is twice the input, so
/// that k is 2; the second frame does as `second` says.
fn growing(count: usize, second: impl Fn(usize) -> f32, both: bool) -> Vec<Moment> {
    let x = |i: usize| vec![1.0 + 0.1 * i as f32, second(i)];
    // Output minus input is the input.
    moments(falling(count, both), x, x)
}

fn check(options: EasyCacheOptions, stream: &[Moment]) -> String {
    run(EasyCache::new(options, &context(stream.len() as u32)).unwrap(), stream).decisions
}

/// The decisions of EasyCache's own code at 5127804, lines cut out and executed by
/// `tools/record_cache_logs`, around a small model and an Euler step.
#[test]
fn it_decides_as_the_reference_did() {
    #[derive(Deserialize)]
    struct Logs {
        cases: Vec<Log>,
    }
    #[derive(Deserialize)]
    struct Log {
        threshold: f64,
        steps: Vec<Step>,
    }
    #[derive(Deserialize)]
    struct Step {
        x: Vec<f32>,
        /// Output of the prompt's branch; empty where it was not computed.
        v: Vec<f32>,
        computed: bool,
        k: f64,
        sum: f64,
    }
    let logs: Logs = serde_json::from_str(include_str!("logs.json")).unwrap();
    for log in logs.cases {
        let frame = |f| FrameLevel::moving(f, 500.0, 0.5, 0.4);
        let levels = vec![(0..3).map(frame).collect(); log.steps.len()];
        let delta = |i: usize| match log.steps[i].computed {
            true => log.steps[i].v.iter().zip(&log.steps[i].x).map(|(v, x)| v - x).collect(),
            false => vec![0.0; log.steps[i].x.len()],
        };
        let stream = moments(levels, |i| log.steps[i].x.clone(), delta);
        let mut context = context(log.steps.len() as u32);
        (context.frames, context.frame_output_elements) = (3, 4);
        let cache = EasyCache::new(
            EasyCacheOptions { threshold: log.threshold, ..EasyCacheOptions::default() },
            &context,
        );
        let cache = cache.unwrap();
        let declared = cache.plan().bytes_max;
        let outcome = run(cache, &stream);
        let expected: String =
            log.steps.iter().map(|s| if s.computed { 'C' } else { 's' }).collect();
        assert!(expected.contains('s'));
        assert_eq!(outcome.decisions, expected);
        assert_eq!(outcome.held_max, declared);
        for (i, reused) in log.steps.iter().enumerate().filter(|(_, step)| !step.computed) {
            let measured = &outcome.measured[i];
            // The reference's numbers are f32.
            assert!((measured[1] - reused.k).abs() < 1e-4 * reused.k, "k at {i}");
            assert!((measured[3] - reused.sum).abs() < 1e-4 * log.threshold, "sum at {i}");
        }
    }
}

#[test]
fn predicted_changes_add_up_to_the_threshold() {
    // k = 2. At 2: 2 * 0.1 / 2.2 = 0.091; at 3 the same again, 0.18; at 4 it would be 0.27.
    let stream = growing(7, |_| 0.0, false);
    let cache = EasyCache::new(options(0.2, 2, 1), &context(7)).unwrap();
    let outcome = run(cache, &stream);
    assert_eq!(outcome.decisions, "CCssCsC");
    assert!((outcome.measured[2][1] - 2.0).abs() < 1e-5);
    assert!((outcome.measured[3][3] - 0.4 / 2.2).abs() < 1e-6);
    // What stands in is the output minus the input of the last computed evaluation.
    assert_eq!(outcome.reused[3], [1.1, 0.0]);
}

#[test]
fn a_restless_prefix_counts_only_in_the_reference_scope() {
    let noise = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let still = check(options(0.2, 2, 1), &growing(7, |_| 0.0, false));
    assert_eq!(check(options(0.2, 2, 1), &growing(7, noise, false)), still);
    let all = EasyCacheOptions { scope: Scope::AllFrames, ..options(0.2, 2, 1) };
    assert_ne!(check(all, &growing(7, noise, false)), still);
}

#[test]
fn who_follows_does_as_the_leader_and_holds_one_tensor() {
    let stream = growing(7, |_| 0.0, false);
    let follow = |decisions: &str| {
        let mut context = context(7);
        context.branch = "uncond".into();
        let cache = EasyCache::new(options(0.2, 2, 1), &context).unwrap();
        assert_eq!(cache.plan().bytes_max, 8);
        run(cache, &following(&stream, decisions))
    };
    let outcome = follow("CCssCsC");
    assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CCssCsC", 8));
    // Nothing to reuse yet: it computes, whatever the leader has.
    assert_eq!(follow("sCssCsC").decisions, "CCssCsC");
}

#[test]
fn nan_zero_and_another_shape_compute_and_the_state_recovers() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut stream = growing(9, |_| 0.0, false);
        stream[3].signal[0] = bad;
        stream[3].computed[0] = bad;
        // It needs two computed evaluations for the next k.
        assert_eq!(check(options(0.2, 2, 1), &stream), "CCsCCCssC", "{bad}");
    }
    let still = moments(falling(6, true), |_| vec![1.0, 1.0], |_| vec![1.0, 1.0]);
    assert_eq!(check(options(0.2, 1, 1), &still), "CCCCCC");
    let mut stream = growing(8, |_| 0.0, false);
    stream[3].signal = vec![1.0; 4];
    stream[3].computed = vec![1.0; 4];
    assert_eq!(check(options(0.2, 2, 1), &stream), "CCsCCCsC");
}

#[test]
fn a_threshold_of_zero_computes_always_and_holds_nothing() {
    let cache = EasyCache::new(options(0.0, 1, 0), &context(6)).unwrap();
    assert_eq!(cache.plan().bytes_max, 0);
    let outcome = run(cache, &growing(6, |_| 0.0, false));
    assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CCCCCC", 0));
}

#[test]
fn halves_hold_half() {
    let stream = growing(7, |_| 0.0, false);
    for (store, bytes) in [(Store::Residual, 20), (Store::Signal, 16), (Store::Both, 12)] {
        let options = HalfOptions { store, inner: options(0.2, 2, 1) };
        let cache = HalfMemory::<EasyCache>::new(options, &context(7)).unwrap();
        assert_eq!(cache.plan().bytes_max, bytes);
        let outcome = run(cache, &stream);
        assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CCssCsC", bytes));
    }
}

#[test]
fn a_sample_of_zeros_says_nothing() {
    let mut stream = growing(8, |_| 0.0, true);
    stream[5].signal = vec![0.0; 2];
    let wide = options(100.0, 2, 0);
    assert_eq!(&check(wide, &stream)[4..=5], "sC");
}
