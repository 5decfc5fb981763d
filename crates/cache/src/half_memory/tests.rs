use serde_json::json;
use wan_plugin_api::options::complete;
use wan_plugin_kit::{VecOps, values};

use super::*;
use crate::fixture::{Moment, context, falling, moments, run};
use crate::{EasyCache, FirstBlockCache};

/// Largest relative error of one rounding to bf16, and to f8 e4m3.
const U_BF16: f64 = 1.0 / 256.0;
const U_F8: f64 = 1.0 / 16.0;

/// Numbers of all sizes, the same ones each time.
fn scattered(count: usize, seed: u64) -> Vec<f32> {
    let ops = VecOps::default();
    let like = ops.tensor(1, &vec![0.0; count]);
    let normal = values(&ops.noise_like(&like, seed, 0).unwrap());
    normal.iter().enumerate().map(|(i, v)| v * 2f32.powi(i as i32 % 12 - 6)).collect()
}

#[test]
fn an_element_is_off_by_the_stated_bound_at_most() {
    let ops = VecOps::default();
    let full = scattered(400, 1);
    let tensor = ops.tensor(2, &full);
    let bf16 = halve(&tensor, &ops).unwrap();
    let f8 = values(&halve(&bf16, &ops).unwrap());
    let bf16 = values(&bf16);
    for (index, ((full, bf16), f8)) in full.iter().zip(&bf16).zip(&f8).enumerate() {
        let (full, bf16, f8) = (f64::from(*full), f64::from(*bf16), f64::from(*f8));
        assert!((bf16 - full).abs() <= U_BF16 * full.abs(), "{bf16} for {full}");
        let frame = &values(&tensor)[index / 200 * 200..][..200];
        let largest = frame.iter().fold(0f32, |l, v| l.max(v.abs()));
        // The scale is rounded too, by f32's last bit.
        let smallest = f64::from(largest) / 448.0 / 1024.0;
        let bound = (U_F8 * bf16.abs()).max(smallest) * 1.01;
        assert!((f8 - bf16).abs() <= bound, "{f8} for {bf16}");
    }
}

/// Every measured number of a cache that always computes, at full width and with `store = both`.
fn measured<C: Halved>(id: &str, stream: &[Moment]) -> [Vec<Vec<f64>>; 2] {
    let mut context = context(stream.len() as u32);
    (context.frame_tokens, context.frame_output_elements) = (20, 20);
    let given = [("retention".to_string(), json!(1000))].into();
    let options = json!(complete(id, &C::options(), &given).unwrap());
    let full = C::new(serde_json::from_value(options.clone()).unwrap(), &context).unwrap();
    let inner = serde_json::from_value(options).unwrap();
    let half = HalfMemory::<C>::new(HalfOptions { store: Store::Both, inner }, &context).unwrap();
    [run(full, stream).measured, run(half, stream).measured]
}

/// Signals that move by a twentieth of noise at each evaluation.
fn wandering(count: usize) -> Vec<Moment> {
    let signal = |i: usize| -> Vec<f32> {
        let step = |s: usize| scattered(40, s as u64 + 10);
        (1..=i).fold(scattered(40, 5), |sum, s| {
            sum.iter().zip(step(s)).map(|(a, b)| a + 0.05 * b).collect()
        })
    };
    moments(falling(count, true), signal, |i| scattered(40, i as u64 + 90))
}

fn size(of: &[f32]) -> f64 {
    of.iter().map(|v| f64::from(v.abs())).sum()
}

#[test]
fn the_first_blocks_change_stays_within_its_bound() {
    let stream = wandering(12);
    let [full, half] = measured::<FirstBlockCache>("first-block", &stream);
    for (index, pair) in stream.windows(2).enumerate() {
        let (a, b) = (size(&pair[1].signal), size(&pair[0].signal));
        let (change, halved) = (full[index + 1][0], half[index + 1][0]);
        let slack = U_BF16 * (a + b) / b;
        assert!(halved >= (change - slack) / (1.0 + U_BF16), "{halved} for {change}");
        assert!(halved <= (change + slack) / (1.0 - U_BF16), "{halved} for {change}");
    }
}

#[test]
fn easycaches_change_stays_within_its_bound() {
    let stream = wandering(12);
    let [full, half] = measured::<EasyCache>("easycache", &stream);
    for (index, pair) in stream.windows(2).enumerate() {
        let (before, now) = (&pair[0], &pair[1]);
        let output: Vec<f32> =
            before.signal.iter().zip(&before.computed).map(|(x, d)| x + d).collect();
        let v = size(&output);
        let v_slack = U_BF16 * (size(&before.signal) + size(&before.computed));
        let slack = U_BF16 * (size(&now.signal) + size(&before.signal));
        let (change, halved) = (full[index + 1][0], half[index + 1][0]);
        assert!(halved >= (change * v - slack) / (v + v_slack), "{halved} for {change}");
        assert!(halved <= (change * v + slack) / (v - v_slack), "{halved} for {change}");
    }
}
