use wan_plugin_api::FrameLevel;

use super::*;
use crate::fixture::{Moment, Outcome, context, falling, following, moments, run};
use crate::{HalfMemory, HalfOptions, Store};

fn options() -> ForecastOptions {
    ForecastOptions {
        threshold: 0.1,
        of: Forecasted::Residual,
        blend: 1.0,
        limits: LimitOptions { retention: 3, last: 0, max_skips: 0 },
        ..ForecastOptions::default()
    }
}

/// Residuals that are a function of the frame's sigma.
fn of_sigma(levels: Vec<Vec<FrameLevel>>, residual: impl Fn(f64) -> f64) -> Vec<Moment> {
    let at = levels.clone();
    let computed = |i: usize| at[i].iter().map(|l| residual(l.sigma) as f32).collect();
    moments(levels, |_| vec![], computed)
}

fn outcome(options: ForecastOptions, stream: &[Moment]) -> Outcome {
    run(Forecast::new(options, &context(stream.len() as u32)).unwrap(), stream)
}

#[test]
fn a_line_is_forecast_exactly_and_reused_for_ever() {
    let stream = of_sigma(falling(8, true), |s| 3.0 + 2.0 * s);
    let outcome = outcome(options(), &stream);
    // Two points for the line, and a third to see that it holds.
    assert_eq!(outcome.decisions, "CCCsssss");
    let wrong = |(m, reused): (&Moment, &Vec<f32>)| (m.computed[0] - reused[0]).abs();
    assert!(stream.iter().zip(&outcome.reused).skip(3).map(wrong).all(|w| w < 1e-5));
}

#[test]
fn the_error_grows_with_the_square_of_the_gap() {
    // r = s^2 at 1, 7/8, 6/8: the line through the first two misses the third by 2/64 of 36/64.
    let stream = of_sigma(falling(8, true), |s| s * s);
    let outcome = outcome(ForecastOptions { threshold: 0.06, ..options() }, &stream);
    let measured = 2.0 / 36.0;
    assert!((outcome.measured[3][0] - measured).abs() < 1e-6, "{:?}", outcome.measured[3]);
    // One step further is four times as much, and the sum is over.
    assert!((outcome.measured[4][0] - 4.0 * measured).abs() < 1e-5);
    assert_eq!(&outcome.decisions[..5], "CCCsC");
}

#[test]
fn a_parabola_takes_order_two() {
    let stream = of_sigma(falling(8, true), |s| 1.0 + s * s);
    let second = ForecastOptions { order: 2, threshold: 0.001, ..options() };
    assert_eq!(outcome(second.clone(), &stream).decisions, "CCCCssss");
    let first = ForecastOptions { threshold: 0.001, ..options() };
    assert_eq!(outcome(first, &stream).decisions, "CCCCCCCC");
    let declared = Forecast::new(second.clone(), &context(8)).unwrap().plan().bytes_max;
    assert_eq!((declared, outcome(second, &stream).held_max), (24, 24));
}

#[test]
fn frames_that_rest_keep_their_residual_and_say_nothing_of_the_error() {
    let stream = of_sigma(falling(8, false), |s| 3.0 + 2.0 * s);
    let outcome = outcome(options(), &stream);
    assert_eq!(outcome.decisions, "CCCsssss");
    assert!(outcome.reused[3..].iter().all(|reused| reused[1] == 3.0));
}

#[test]
fn an_interval_is_a_schedule_and_starts_with_what_there_is() {
    let limits = LimitOptions { retention: 1, last: 0, max_skips: 0 };
    let interval = ForecastOptions { interval: 3, limits, ..options() };
    assert!(Forecast::new(interval.clone(), &context(9)).unwrap().plan().schedule_only);
    let stream = of_sigma(falling(9, true), |s| s * s);
    let outcome = outcome(interval, &stream);
    assert_eq!(outcome.decisions, "CssCssCss");
    // One point: the residual itself. Two: the line.
    assert_eq!(outcome.reused[1], [1.0, 1.0]);
    let line = 4.0f32 / 9.0 + (4.0 / 9.0 - 1.0) / 3.0;
    assert!((outcome.reused[4][0] - line).abs() < 1e-6);
}

#[test]
fn a_list_says_what_computes() {
    let listed = ForecastOptions { computes: vec![0.0, 1.0, 5.0], ..options() };
    let stream = of_sigma(falling(8, true), |s| s * s);
    assert_eq!(outcome(listed.clone(), &stream).decisions, "CCsssCss");
    let refused = |options| Forecast::new(options, &context(8)).err().unwrap().message;
    let both = ForecastOptions { interval: 2, ..listed.clone() };
    assert!(refused(both).starts_with("interval and computes both"));
    let half = ForecastOptions { computes: vec![0.5], ..listed };
    assert!(refused(half).starts_with("computes: 0.5 is not"));
}

#[test]
fn limits_hold_and_zero_is_off() {
    let limits = LimitOptions { retention: 4, last: 2, max_skips: 1 };
    let stream = of_sigma(falling(9, true), |s| 3.0 + 2.0 * s);
    assert_eq!(outcome(ForecastOptions { limits, ..options() }, &stream).decisions, "CCCCsCsCC");
    for off in [
        ForecastOptions { threshold: 0.0, interval: 3, ..options() },
        ForecastOptions { interval: 1, ..options() },
    ] {
        assert_eq!(Forecast::new(off.clone(), &context(9)).unwrap().plan().bytes_max, 0);
        let outcome = outcome(off, &stream);
        assert_eq!((outcome.decisions.as_str(), outcome.held_max), ("CCCCCCCCC", 0));
    }
}

#[test]
fn who_follows_forecasts_its_own_residuals() {
    let stream = following(&of_sigma(falling(6, true), |s| s * s), "CCCssC");
    let outcome = outcome(options(), &stream);
    assert_eq!(outcome.decisions, "CCCssC");
    // The line from (5/6)^2 over (4/6)^2 on to 3/6.
    let line = 2.0 * (4.0f32 / 6.0).powi(2) - (5.0f32 / 6.0).powi(2);
    assert!((outcome.reused[3][0] - line).abs() < 1e-6);
}

#[test]
fn nan_zero_and_another_shape_compute_and_the_state_recovers() {
    let line = |s: f64| 3.0 + 2.0 * s;
    for bad in [f32::NAN, f32::INFINITY] {
        let mut stream = of_sigma(falling(9, true), line);
        stream[2].computed[0] = bad;
        // It begins again: two points differ by 0.054; at twice the gap that is too much.
        assert_eq!(outcome(options(), &stream).decisions, "CCCCCsCss", "{bad}");
    }
    let zero = of_sigma(falling(5, true), |_| 0.0);
    assert_eq!(outcome(options(), &zero).decisions, "CCCCC");
    let mut stream = of_sigma(falling(9, true), line);
    stream[4].computed = vec![1.0; 4];
    assert_eq!(outcome(options(), &stream).decisions, "CCCsCCCsC");
}

#[test]
fn halved_residuals_give_a_full_width_forecast() {
    let stream = of_sigma(falling(8, true), |s| 3.0 + 2.0 * s);
    let options = HalfOptions { store: Store::Residual, inner: options() };
    let cache = HalfMemory::<Forecast>::new(options, &context(8)).unwrap();
    assert_eq!(cache.plan().bytes_max, 8);
    let half = run(cache, &stream);
    assert_eq!((half.decisions.as_str(), half.held_max), ("CCCsssss", 8));
    for (moment, reused) in stream.iter().zip(&half.reused).filter(|(_, r)| !r.is_empty()) {
        // |w| is 2 and 1 at the first reuse and grows to 6 and 5 at the last; u = 2^-8, r <= 5.
        assert!((moment.computed[0] - reused[0]).abs() <= 11.0 * 5.0 / 256.0);
    }
}

#[test]
fn what_reuses_led_astray_is_given_back_at_the_next() {
    let output = |sigma: f64| 2.0 + sigma * sigma;
    let stream = of_sigma(falling(8, true), output);
    let given_back = ForecastOptions {
        of: Forecasted::Output,
        give_back: true,
        computes: vec![0.0, 1.0, 4.0],
        ..options()
    };
    let outcome = outcome(given_back.clone(), &stream);
    assert_eq!(outcome.decisions, "CCssCsss");
    // A parabola is known from three points, so all that 2 and 3 led astray is given back by 5,
    // and 5 itself errs by its own extrapolation, from 4 and 1.
    let way = -1.0 / 8.0;
    let astray: f64 = (2..=5)
        .filter(|i| *i != 4)
        .map(|i| way * f64::from(outcome.reused[i][0] - stream[i].computed[0]))
        .sum();
    let line = |s: f64| {
        let (near, far) = (0.5, 7.0 / 8.0);
        output(near) + (s - near) / (near - far) * (output(near) - output(far))
    };
    let own = way * (line(3.0 / 8.0) - output(3.0 / 8.0));
    assert!((astray - own).abs() < 1e-6, "{astray} {own}");
    let declared = Forecast::new(given_back, &context(8)).unwrap().plan().bytes_max;
    assert_eq!((declared, outcome.held_max), (3 * 2 * 4, 3 * 2 * 4));
    let residual = ForecastOptions { give_back: true, ..options() };
    assert!(Forecast::new(residual, &context(8)).is_err());
}

#[test]
fn a_frame_that_begins_late_has_its_own_first_steps() {
    // The second frame rests at sigma 1 for four evaluations and then falls as the first one did.
    let late = |i: usize| match i.checked_sub(4) {
        Some(i) => falling(8, true)[i][0],
        None => FrameLevel::frozen(1, 1000.0, 1.0),
    };
    let first = |i: usize| falling(12, true)[i][0];
    let levels = (0..12).map(|i| vec![first(i), FrameLevel { frame: 1, ..late(i) }]).collect();
    let stream = of_sigma(levels, |s| 3.0 + 2.0 * s);
    assert_eq!(outcome(options(), &stream).decisions, "CCCsCCCsssss");
}
