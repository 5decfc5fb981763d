//! The fused kernels against the same formulas in candle's operations (f64 takes that path).

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::rows::Rows;
use crate::testing;

/// Numbers far from 0, where a variance by cancellation would show.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    testing::noise(seed, shape).affine(1.7, 5.).unwrap()
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (wide(a) - wide(b)).unwrap().abs().unwrap();
    difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
}

#[test]
fn exp_is_accurate_over_its_range() {
    for step in -8700..8800 {
        let x = step as f32 / 100.;
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 2.5e-7, "exp({x}): relative error {error}");
    }
    assert!(exp(-1000.) < 1e-37 && exp(f32::NAN).is_nan());
}

#[test]
fn layer_norm_by_hand() {
    // Mean 2, variance 2/3: the rounding of (x - 2) / sqrt(2/3).
    let x = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap();
    let y = layer_norm(&x, None, 0.).unwrap().to_vec2::<f32>().unwrap();
    let side = 1.5f32.sqrt();
    assert!((y[0][0] + side).abs() < 1e-6 && y[0][1] == 0. && (y[0][2] - side).abs() < 1e-6);
}

#[test]
fn affine_layer_norm_equals_its_composition() {
    let (x, weight, bias) = (noise(1, &[2, 5, 19]), noise(2, &[19]), noise(3, &[19]));
    let fused = layer_norm(&x, Some((&weight, &bias)), 1e-6).unwrap();
    let composed = layer_norm(&wide(&x), Some((&wide(&weight), &wide(&bias))), 1e-6).unwrap();
    assert!(distance(&fused, &composed) < 2e-5);
}

#[test]
fn rows_reach_their_tokens() {
    let x = noise(4, &[2, 12, 5]);
    let branch = noise(5, &[2, 12, 5]);
    for index in [vec![vec![0, 1, 1], vec![2, 0, 1]], vec![vec![1], vec![0]]] {
        let table = Rows::new(noise(6, &[2, 3, 6, 5]), index.into()).unwrap();
        let wide_table = table.with_rows(wide(table.rows())).unwrap();
        let fused = modulate(&x, &table, 3, 4).unwrap();
        let composed = modulate(&wide(&x), &wide_table, 3, 4).unwrap();
        assert!(distance(&fused, &composed) < 1e-5);
        let fused = add_gated(&x, &branch, &table, 5).unwrap();
        let composed = add_gated(&wide(&x), &wide(&branch), &wide_table, 5).unwrap();
        assert!(distance(&fused, &composed) < 1e-5);
    }
}

#[test]
fn rows_that_do_not_divide_the_tokens_are_refused() {
    let table = Rows::new(noise(7, &[1, 1, 6, 5]), vec![vec![0, 0, 0, 0, 0]].into()).unwrap();
    assert!(modulate(&noise(8, &[1, 12, 5]), &table, 0, 1).is_err());
}

#[test]
fn each_gelu_is_its_own_form() {
    let x = Tensor::arange(-600f32, 600., &Device::Cpu).unwrap().affine(0.01, 0.).unwrap();
    let (tanh, exact) = (gelu_tanh(x.copy().unwrap()).unwrap(), gelu(&x).unwrap());
    assert!(distance(&tanh, &wide(&x).gelu().unwrap()) < 1e-6);
    assert!(distance(&exact, &wide(&x).gelu_erf().unwrap()) < 1e-6);
    assert!(distance(&tanh, &exact) > 1e-4);
}

#[test]
fn softmax_bias_and_sum_equal_candles() {
    let (x, bias) = (noise(9, &[7, 33]), noise(10, &[33]));
    let softmaxed = softmax(x.copy().unwrap()).unwrap();
    assert!(distance(&softmaxed, &candle_nn::ops::softmax_last_dim(&wide(&x)).unwrap()) < 1e-6);
    let biased = add_bias(x.copy().unwrap(), &bias).unwrap();
    assert_eq!(distance(&biased, &x.broadcast_add(&bias).unwrap()), 0.);
    assert_eq!(distance(&add(&x, &biased).unwrap(), &(&x + &biased).unwrap()), 0.);
}
