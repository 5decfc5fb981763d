//! The fused kernels against the same formulas in candle's operations (f64 takes that path).

use candle_core::{DType, Device, Tensor};

use super::*;
use wan_kernels::Kernels;

use crate::rows::Rows;
use crate::testing;

/// Numbers far from 0, where a variance by cancellation would show.
fn noise(seed: u64, shape: &[usize]) -> Tensor {
    testing::noise(seed, shape).affine(1.7, 5.).unwrap()
}

fn kernels() -> Kernels {
    Kernels::detect()
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (wide(a) - wide(b)).unwrap().abs().unwrap();
    difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
}

#[test]
fn layer_norm_by_hand() {
    // Mean 2, variance 2/3: the rounding of (x - 2) / sqrt(2/3).
    let x = Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap();
    let y = layer_norm(kernels(), &x, None, 0.).unwrap().to_vec2::<f32>().unwrap();
    let side = 1.5f32.sqrt();
    assert!((y[0][0] + side).abs() < 1e-6 && y[0][1] == 0. && (y[0][2] - side).abs() < 1e-6);
}

#[test]
fn affine_layer_norm_equals_its_composition() {
    let (x, weight, bias) = (noise(1, &[2, 5, 19]), noise(2, &[19]), noise(3, &[19]));
    let fused = layer_norm(kernels(), &x, Some((&weight, &bias)), 1e-6).unwrap();
    let composed =
        layer_norm(kernels(), &wide(&x), Some((&wide(&weight), &wide(&bias))), 1e-6).unwrap();
    assert!(distance(&fused, &composed) < 2e-5);
}

#[test]
fn rows_reach_their_tokens() {
    let x = noise(4, &[2, 12, 5]);
    for index in [vec![vec![0, 1, 1], vec![2, 0, 1]], vec![vec![1], vec![0]]] {
        let table = Rows::new(noise(6, &[2, 3, 6, 5]), index.into()).unwrap();
        let wide_table = table.with_rows(wide(table.rows())).unwrap();
        let fused = modulated_norm(kernels(), &x, (&table, 3, 4), 1e-6).unwrap();
        let composed = modulated_norm(kernels(), &wide(&x), (&wide_table, 3, 4), 1e-6).unwrap();
        assert!(distance(&fused, &composed) < 2e-5);
    }
}

#[test]
fn rows_that_do_not_divide_the_tokens_are_refused() {
    let table = Rows::new(noise(7, &[1, 1, 6, 5]), vec![vec![0, 0, 0, 0, 0]].into()).unwrap();
    assert!(modulated_norm(kernels(), &noise(8, &[1, 12, 5]), (&table, 0, 1), 1e-6).is_err());
}

#[test]
fn gelu_is_exact_in_every_format() {
    let x = Tensor::arange(-600f32, 600., &Device::Cpu).unwrap().affine(0.01, 0.).unwrap();
    assert!(distance(&gelu(&x).unwrap(), &wide(&x).gelu_erf().unwrap()) < 1e-6);
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let narrow = x.to_dtype(dtype).unwrap();
        let out = gelu(&narrow).unwrap();
        assert_eq!(out.dtype(), dtype);
        // Half a unit in the last place of bf16, at numbers up to 8.
        let widened = gelu(&narrow.to_dtype(DType::F32).unwrap()).unwrap();
        assert!(distance(&out, &widened) < 0.02, "{dtype:?}");
    }
}

/// Lengths around the lanes of a vector, and around what is worth a thread.
const LENGTHS: [usize; 9] = [1, 7, 8, 9, 17, 8191, 8192, 16385, 40_005];

#[test]
fn numbers_at_every_end_are_changed_too() {
    for length in LENGTHS {
        let (x, y) = (testing::noise(1, &[length]), testing::noise(2, &[length]));
        assert!(distance(&gelu(&x).unwrap(), &wide(&x).gelu_erf().unwrap()) < 1e-6, "{length}");
        assert_eq!(distance(&add(kernels(), &x, &y).unwrap(), &(&x + &y).unwrap()), 0., "{length}");
        // Views that begin inside their storage, and one that is not contiguous.
        let tail = x.narrow(0, length / 2, length - length / 2).unwrap();
        assert!(distance(&gelu(&tail).unwrap(), &wide(&tail).gelu_erf().unwrap()) < 1e-6);
        let pairs = Tensor::stack(&[&x, &y], 1).unwrap();
        let turned = pairs.t().unwrap();
        assert_eq!(
            distance(&add(kernels(), &turned, &turned).unwrap(), &(&turned * 2.).unwrap()),
            0.
        );
    }
}

#[test]
fn rows_of_every_length_are_normed_whole() {
    for length in LENGTHS {
        let x = testing::noise(3, &[3, length]).affine(2., 1.).unwrap();
        let rows = x.to_vec2::<f32>().unwrap();
        let normed = layer_norm(kernels(), &x, None, 1e-6).unwrap().to_vec2::<f32>().unwrap();
        for (row, normed) in rows.iter().zip(&normed) {
            let row: Vec<f64> = row.iter().map(|number| f64::from(*number)).collect();
            let count = length as f64;
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            for (place, x) in row.iter().enumerate() {
                let expected = (x - mean) / (variance + 1e-6).sqrt();
                assert!((f64::from(normed[place]) - expected).abs() < 2e-5, "{length}: {place}");
            }
        }
    }
}

#[test]
fn a_row_that_is_all_one_number_has_the_norm_zero() {
    let x = Tensor::full(3f32, (2, 5), &Device::Cpu).unwrap();
    assert_eq!(testing::numbers(&layer_norm(kernels(), &x, None, 1e-6).unwrap()), [0.; 10]);
}
