use wan_plugin_api::testkit::VecOps;
use wan_plugin_api::{Action, Choice, DType, FrameLevel, ModelIdentity, Place};

use super::*;

fn options() -> TeaCacheOptions {
    TeaCacheOptions {
        mode: Mode::E,
        threshold: 0.25,
        coefficients: Vec::new(),
        anchor: Anchor::Previous,
        scope: Scope::UpdatedFrames,
        negative: Negative::Clamp,
        retention: 1,
        last: 0,
        max_skips: 0,
    }
}

fn context(evaluations: u32) -> CacheContext {
    CacheContext {
        branch: "cond".into(),
        expert: 0,
        evaluations,
        evaluations_before: 0,
        evaluations_after: 0,
        steps: evaluations,
        experts: 1,
        model: ModelIdentity {
            variant: "df".into(),
            dim: 1,
            layers: 1,
            in_channels: 16,
            hash: String::new(),
        },
        frames: 2,
        frame_tokens: 1,
        timesteps_max: 2,
        dtype: DType::F32,
        signal_dtype: DType::F32,
        frame_output_elements: 1,
        keep: Place::Device,
    }
}

/// Runs a cache over signals of two frames; the second is updated only where `second` says so.
fn check_decisions(options: TeaCacheOptions, signals: &[[f32; 2]], second: bool) -> String {
    let ops = VecOps::default();
    let mut cache = TeaCache::new(options, &context(signals.len() as u32)).unwrap();
    let levels = [
        FrameLevel::moving(0, 500.0, 0.5, 0.4),
        FrameLevel { update: second, ..FrameLevel::frozen(1, 0.0, 0.0) },
    ];
    let mut decisions = String::new();
    for (index, signal) in signals.iter().enumerate() {
        let signals_now = [(Signal::TimeEmbedding, ops.tensor(2, signal))];
        let evaluation = Evaluation {
            index: index as u32,
            remaining: (signals.len() - index - 1) as u32,
            leader: None,
            levels: &levels,
            computes: TensorForm::new(2, 1, DType::F32, Place::Device, 8),
            signals: &signals_now,
        };
        let decision = cache.decide(&evaluation, &ops).unwrap();
        decisions.push(if decision.choice() == Choice::Compute { 'C' } else { 's' });
        if let Action::Compute { keep: true } = decision.action {
            cache.store(&ops.tensor(2, &[index as f32, 0.0]), &ops).unwrap();
        }
    }
    decisions
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
    let retained = TeaCacheOptions { retention: 3, last: 2, ..options() };
    assert_eq!(check_decisions(retained, &still, true), "CCCssssCC");
    let limited = TeaCacheOptions { max_skips: 2, ..options() };
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
