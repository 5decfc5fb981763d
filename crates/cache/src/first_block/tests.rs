use super::*;
use crate::fixture::{Moment, context, falling, moments, run};
use crate::{HalfMemory, HalfOptions, Store};

fn options() -> FirstBlockOptions {
    FirstBlockOptions {
        threshold: 0.25,
        scope: Scope::UpdatedFrames,
        limits: LimitOptions { retention: 1, last: 0, max_skips: 0 },
    }
}

/// A probe whose first frame grows by a tenth of the first value each time.
fn growing(count: usize, both: bool) -> Vec<Moment> {
    let probe = |i: usize| vec![1.0 + 0.1 * i as f32, 10.0];
    moments(falling(count, both), probe, |i| vec![i as f32, 1.0])
}

fn check(options: FirstBlockOptions, stream: &[Moment]) -> String {
    run(FirstBlockCache::new(options, &context(stream.len() as u32)).unwrap(), stream).decisions
}

#[test]
fn the_distance_is_always_from_the_last_computed() {
    // 0.1 and 0.2 of 1; then 0.1, 0.2, 0.3 of 1.3 (0.077, 0.15, 0.23); then from 1.7.
    let cache = FirstBlockCache::new(options(), &context(9)).unwrap();
    let declared = cache.plan().bytes_max;
    let outcome = run(cache, &growing(9, false));
    assert_eq!(outcome.decisions, "CssCsssCs");
    assert!((outcome.measured[2][0] - 0.2).abs() < 1e-6);
    assert_eq!(outcome.reused[4], [3.0, 1.0]);
    // The probe and the residual, two frames of one f32 each.
    assert_eq!((declared, outcome.held_max), (16, 16));
}

#[test]
fn a_still_frame_dilutes_only_the_reference_scope() {
    let all = FirstBlockOptions { scope: Scope::AllFrames, ..options() };
    assert_eq!(check(all, &growing(9, false)), "Cssssssss");
}

#[test]
fn limits_hold() {
    let limits = LimitOptions { retention: 3, last: 2, max_skips: 1 };
    let stream = growing(9, false);
    assert_eq!(check(FirstBlockOptions { limits, ..options() }, &stream), "CCCsCsCCC");
    let off = FirstBlockOptions { threshold: 0.0, ..options() };
    assert_eq!(FirstBlockCache::new(off.clone(), &context(9)).unwrap().plan().bytes_max, 0);
    assert_eq!(check(off, &stream), "CCCCCCCCC");
}

#[test]
fn nan_zero_and_another_shape_compute_and_the_state_recovers() {
    for bad in [f32::NAN, f32::INFINITY, 0.0] {
        let mut stream = moments(falling(6, true), |_| vec![1.0, 1.0], |i| vec![i as f32, 1.0]);
        stream[2].signal = vec![bad, bad];
        assert_eq!(check(options(), &stream), "CsCCss", "{bad}");
    }
    let mut stream = growing(6, false);
    (stream[2].signal, stream[2].computed) = (vec![1.0; 4], vec![1.0; 4]);
    assert_eq!(check(options(), &stream), "CsCCss");
}

#[test]
fn halves_hold_half() {
    for (store, bytes) in [(Store::Residual, 12), (Store::Signal, 12), (Store::Both, 8)] {
        let options = HalfOptions { store, inner: options() };
        let cache = HalfMemory::<FirstBlockCache>::new(options, &context(9)).unwrap();
        assert_eq!(cache.plan().bytes_max, bytes);
        let outcome = run(cache, &growing(9, false));
        assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CssCsssCs", bytes));
    }
}
