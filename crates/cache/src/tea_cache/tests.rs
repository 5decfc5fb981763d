use serde_json::json;
use wan_plugin_api::{DType, FrameLevel};

use super::*;
use crate::fixture::{Moment, Outcome, context, falling, moments, run, run_in};
use crate::limits::LimitOptions;
use crate::scope::Scope;
use crate::{HalfMemory, HalfOptions, Store};

fn options() -> TeaCacheOptions {
    TeaCacheOptions {
        mode: Mode::E,
        threshold: 0.25,
        limits: LimitOptions { retention: 1, last: 0, max_skips: 0 },
        ..TeaCacheOptions::default()
    }
}

/// Signals of two frames; the second is updated only where `second` says so.
fn given(signals: &[[f32; 2]], second: bool) -> Vec<Moment> {
    let levels = vec![
        FrameLevel::moving(0, 500.0, 0.5, 0.4),
        FrameLevel { update: second, ..FrameLevel::frozen(1, 0.0, 0.0) },
    ];
    let levels = vec![levels; signals.len()];
    moments(levels, |i| signals[i].to_vec(), |i| vec![i as f32, 0.0])
}

fn outcome(options: TeaCacheOptions, signals: &[[f32; 2]], second: bool) -> Outcome {
    let cache = TeaCache::new(options, &context(signals.len() as u32)).unwrap();
    run(cache, &given(signals, second))
}

fn check_decisions(options: TeaCacheOptions, signals: &[[f32; 2]], second: bool) -> String {
    outcome(options, signals, second).decisions
}

fn with_limits(retention: u32, last: u32, max_skips: u32) -> TeaCacheOptions {
    TeaCacheOptions { limits: LimitOptions { retention, last, max_skips }, ..options() }
}

/// A signal whose first frame grows by a tenth of itself each time; the second stands still.
fn growing(count: i32) -> Vec<[f32; 2]> {
    (0..count).map(|i| [1.1f32.powi(i), 1.0]).collect()
}

#[test]
fn changes_of_a_tenth_add_up_to_the_threshold() {
    // 0.1, 0.2 are below 0.25; the third reaches 0.3.
    assert_eq!(check_decisions(options(), &growing(8), false), "CssCssCs");
}

#[test]
fn a_frozen_frame_dilutes_only_the_reference_scope() {
    let all = TeaCacheOptions { scope: Scope::AllFrames, ..options() };
    let diluted = check_decisions(all, &growing(8), false);
    let updated = check_decisions(options(), &growing(8), false);
    assert!(diluted.matches('s').count() > updated.matches('s').count(), "{diluted} {updated}");
}

#[test]
fn distances_from_the_last_computed_add_up_faster_than_steps() {
    let computed = TeaCacheOptions { anchor: Anchor::Computed, ..options() };
    // 0.1, then 0.21 from the same anchor: 0.31.
    assert_eq!(check_decisions(computed, &growing(7), false), "CsCsCsC");
}

#[test]
fn first_and_last_are_protected_and_reuses_in_a_row_are_limited() {
    let still = vec![[1.0, 1.0]; 9];
    let retained = with_limits(3, 2, 0);
    assert_eq!(check_decisions(retained, &still, true), "CCCssssCC");
    let limited = with_limits(1, 0, 2);
    assert_eq!(check_decisions(limited, &still, true), "CssCssCss");
}

#[test]
fn a_negative_polynomial_is_no_step_back_unless_the_reference_is_asked_for() {
    // P(x) = x - 0.15: every change of a tenth counts -0.05.
    let coefficients = vec![1.0, -0.15];
    let jump = |i: usize| if i == 5 { 0.38 } else { 0.1 };
    let signals: Vec<[f32; 2]> = (0..8)
        .scan(1.0, |value, i| {
            let now = *value;
            *value *= 1.0 + jump(i + 1);
            Some([now as f32, 1.0])
        })
        .collect();
    let clamp = TeaCacheOptions { coefficients: coefficients.clone(), threshold: 0.2, ..options() };
    let reference = TeaCacheOptions { negative: Negative::Reference, ..clamp.clone() };
    // The jump counts 0.23: over the threshold, unless four steps back came before it.
    assert_eq!(check_decisions(clamp, &signals, false), "CssssCss");
    assert_eq!(check_decisions(reference, &signals, false), "Csssssss");
}

#[test]
fn nan_zero_and_infinite_signals_compute_and_the_state_recovers() {
    for bad in [f32::NAN, f32::INFINITY, 0.0] {
        let signals = [[1.0, 1.0], [1.0, 1.0], [bad, bad], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]];
        let decisions = check_decisions(options(), &signals, true);
        assert_eq!(decisions, "CsCCss", "after {bad}");
    }
}

#[test]
fn a_threshold_of_zero_computes_always_and_holds_nothing() {
    let off = TeaCacheOptions { threshold: 0.0, ..options() };
    assert_eq!(TeaCache::new(off.clone(), &context(4)).unwrap().plan().bytes_max, 0);
    assert_eq!(check_decisions(off, &[[1.0, 1.0]; 4], true), "CCCC");
}

#[test]
fn it_holds_what_it_declared_once_it_reuses() {
    let signals = growing(8);
    let cache = TeaCache::new(options(), &context(8)).unwrap();
    let declared = cache.plan().bytes_max;
    let outcome = run(cache, &given(&signals, false));
    assert!(outcome.decisions.contains('s'));
    // Two frames of one f32 each, of the signal and of the residual.
    assert_eq!((declared, outcome.held_max), (16, 16));
}

#[test]
fn another_shape_computes_and_recovers() {
    let mut stream = given(&[[1.0, 1.0]; 8], true);
    for moment in &mut stream[3..5] {
        moment.signal = vec![1.0; 4];
        moment.computed = vec![1.0; 4];
    }
    let cache = TeaCache::new(options(), &context(8)).unwrap();
    assert_eq!(run(cache, &stream).decisions, "CssCsCss");
}

#[test]
fn one_source_of_the_polynomial_at_a_time() {
    let file = json!({
        "schema": 1,
        "model": { "dim": 1, "layers": 1, "in_channels": 16, "hash": "x" },
        "steps": 8,
        "polynomials": { "e": { "coefficients": [2.0, 0.0], "r2": 0.9 } },
    });
    let calibrated = TeaCacheOptions { calibration: file.clone(), ..options() };
    // A tenth counts two tenths: one reuse, and the sum is over.
    assert_eq!(check_decisions(calibrated.clone(), &growing(6), false), "CsCsCs");
    let refused = |options: TeaCacheOptions| match TeaCache::new(options, &context(8)) {
        Err(error) => error.message,
        Ok(_) => panic!("accepted"),
    };
    let both = TeaCacheOptions { coefficients: vec![1.0, 0.0], ..calibrated.clone() };
    assert!(refused(both).starts_with("coefficients and calibration both"));
    let named = TeaCacheOptions { table: "t2v-14b".into(), ..calibrated.clone() };
    assert!(refused(named).starts_with("calibration and table both"));
    let other_mode = TeaCacheOptions { mode: Mode::E0, ..calibrated };
    assert!(refused(other_mode).contains("nothing for mode e0 in this file (it has: e)"));
    let missing = TeaCacheOptions { mode: Mode::E0, table: "ti2v-5b".into(), ..options() };
    assert!(refused(missing).contains("take the other mode"));
    let mut other_model = file;
    other_model["model"]["dim"] = json!(5120);
    let other_model = TeaCacheOptions { calibration: other_model, ..options() };
    assert!(refused(other_model).contains("dim 5120, 1 layers and 16 input channels"));
}

#[test]
fn the_polynomial_is_the_models_own() {
    let mut wan = context(8);
    (wan.model.dim, wan.model.layers) = (5120, 40);
    let of = |options: &TeaCacheOptions| polynomial::coefficients(options, &wan).unwrap();
    assert_eq!(of(&options())[0], -5784.54975374);
    let named = TeaCacheOptions { table: "i2v-720p".into(), ..options() };
    assert_eq!(of(&named)[4], -0.23412683);
    let none = TeaCacheOptions { table: "none".into(), ..options() };
    assert!(of(&none).is_empty());
    // Two experts: nothing is published.
    wan.experts = 2;
    assert!(polynomial::coefficients(&options(), &wan).unwrap().is_empty());
}

#[test]
fn a_preset_refuses_by_name_what_it_fixes() {
    let refused = |preset, change: fn(&mut TeaCacheOptions)| {
        let mut options = TeaCacheOptions { preset, ..TeaCacheOptions::default() };
        change(&mut options);
        TeaCache::new(options, &context(8)).err().map(|e| e.message)
    };
    let error = refused(Preset::Upstream, |o| o.anchor = Anchor::Computed).unwrap();
    assert!(error.starts_with("preset upstream fixes anchor = previous, and anchor = computed"));
    let error = refused(Preset::Wanvideowrapper, |o| o.limits.max_skips = 2).unwrap();
    assert!(error.contains("fixes max_skips = 0, and max_skips = 2 was given"), "{error}");
    assert_eq!(refused(Preset::Wanvideowrapper, |o| o.limits.retention = 6), None);
    assert_eq!(refused(Preset::Upstream, |o| o.limits.retention = 5), None);
    assert!(refused(Preset::Upstream, |o| o.limits.retention = 7).is_some());
    assert_eq!(refused(Preset::WanvideowrapperHalf, |o| o.scope = Scope::AllFrames), None);
}

#[test]
fn upstream_protects_what_the_mode_says() {
    let still = [[1.0, 1.0]; 8];
    let preset = |preset, mode| TeaCacheOptions {
        preset,
        mode,
        threshold: 0.25,
        ..TeaCacheOptions::default()
    };
    let e = preset(Preset::Upstream, Mode::E);
    assert_eq!(check_decisions(e, &still, true), "CssssssC");
    let e0 = preset(Preset::Upstream, Mode::E0);
    assert_eq!(check_decisions(e0, &still, true), "CCCCCsss");
}

#[test]
fn skyreels_protects_the_first_again_halfway_and_refuses_odd_counts() {
    let skyreels =
        TeaCacheOptions { preset: Preset::Skyreels, mode: Mode::E, ..Default::default() };
    assert_eq!(check_decisions(skyreels.clone(), &[[1.0, 1.0]; 8], true), "CsssCsss");
    let odd = TeaCache::new(skyreels, &context(9)).err().unwrap().message;
    assert!(odd.starts_with("preset skyreels: 9 evaluations are an odd number"), "{odd}");
}

#[test]
fn the_wrappers_sum_is_kept_in_f32() {
    // Three times 0.1 is a little over 0.3 in f64, and 0.3 + 1.2e-8 in f32.
    let mut exact = crate::accumulator::Accumulator::default();
    let mut single = exact;
    for _ in 0..3 {
        exact.add(0.1, 1.0);
        single.add_f32(0.1, 1.0);
    }
    assert_eq!(exact.sum(), 0.1 + 0.1 + 0.1);
    assert_eq!(single.sum(), f64::from(0.1f32 + 0.1 + 0.1));
}

#[test]
fn the_halved_wrapper_rounds_every_intermediate() {
    let half = TeaCacheOptions {
        preset: Preset::WanvideowrapperHalf,
        mode: Mode::E,
        threshold: 10.0,
        ..TeaCacheOptions::default()
    };
    // In bf16: 1.1 -> 1.1015625, 1.003 -> 1.0; |a - b| = 0.1015625, mean 0.05078125; mean |b| = 1.
    let outcome = outcome(half, &[[1.0, 1.003], [1.1, 1.0], [1.1, 1.0]], true);
    assert_eq!(outcome.measured[1][0], 0.05078125);
    assert_eq!(outcome.measured[1][1], 0.05078125);
}

#[test]
fn halves_hold_half_and_decide_alike() {
    let stream = given(&growing(8), true);
    let full = run(TeaCache::new(options(), &context(8)).unwrap(), &stream);
    for (store, bytes) in [(Store::Residual, 12), (Store::Signal, 12), (Store::Both, 8)] {
        let options = HalfOptions { store, inner: options() };
        let cache = HalfMemory::<TeaCache>::new(options, &context(8)).unwrap();
        assert_eq!(cache.plan().bytes_max, bytes);
        let half = run(cache, &stream);
        assert_eq!((half.decisions.as_str(), half.held_max), (full.decisions.as_str(), bytes));
    }
}

#[test]
fn a_bf16_residual_is_halved_to_f8_with_a_scale_per_frame() {
    let mut narrow = context(8);
    narrow.dtype = DType::BF16;
    narrow.signal_dtype = DType::BF16;
    let options = HalfOptions { store: Store::Residual, inner: options() };
    let cache = HalfMemory::<TeaCache>::new(options, &narrow).unwrap();
    // Signal: 2 rows of 2 bytes. Residual: 2 bytes and 2 scales.
    assert_eq!(cache.plan().bytes_max, 4 + 2 + 8);
    let stream = moments(falling(8, true), |_| vec![1.0, 1.0], |i| vec![i as f32 + 1.0, 3.0]);
    let half = run_in(cache, &stream, DType::BF16);
    assert_eq!((half.decisions.as_str(), half.held_max), ("Csssssss", 14));
    assert_eq!(half.reused[1], [1.0, 3.0]);
}
