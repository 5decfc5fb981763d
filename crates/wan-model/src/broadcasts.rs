//! Every place where a short tensor meets a long one, on shapes whose axes are all equal: there, a
//! wrong axis is no error. Expected numbers come from loops.

use candle_core::{DType, Device, Tensor};
use wan_kernels::Kernels;

use crate::clip::{Activation, ClipVision, ClipVisionConfig};
use crate::fused;
use crate::linear::Linear;
use crate::rows::Rows;
use crate::testing::{any_weights, distance, matrix, noise, numbers};
use crate::umt5::{Umt5Config, Umt5Encoder};
use crate::vae::{Vae, VaeConfig};
use crate::weights::Weight;

/// Length of every axis.
pub(crate) const N: usize = 6;

/// Both ways through a kernel: the fused one, and candle's operations.
pub(crate) const BOTH: [DType; 2] = [DType::F32, DType::F64];

#[track_caller]
pub(crate) fn check_close(found: &Tensor, expected: &[f64]) {
    let found = numbers(&found.to_dtype(DType::F32).unwrap());
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = 1e-5 * expected.abs().max(1.);
        assert!((f64::from(*found) - expected).abs() < allowed, "{place}: {found}, {expected}");
    }
}

pub(crate) fn wide(tensor: &Tensor) -> Vec<f64> {
    numbers(tensor).into_iter().map(f64::from).collect()
}

/// Number `place` of every combination of `axes` places, the last the fastest.
pub(crate) fn over(axes: usize, mut number: impl FnMut(&[usize]) -> f64) -> Vec<f64> {
    let count = N.pow(axes as u32);
    let place = |index: usize| -> Vec<usize> {
        (0..axes).map(|axis| index / N.pow((axes - 1 - axis) as u32) % N).collect()
    };
    (0..count).map(|index| number(&place(index))).collect()
}

#[test]
fn a_bias_is_one_number_a_column() {
    let (x, weight, bias) = (noise(1, &[N, N]), noise(2, &[N, N]), noise(3, &[N]));
    let (wide_x, wide_weight, wide_bias) = (wide(&x), wide(&weight), wide(&bias));
    let product = over(2, |p| {
        let terms = (0..N).map(|k| wide_x[p[0] * N + k] * wide_weight[p[1] * N + k]);
        terms.sum::<f64>() + wide_bias[p[1]]
    });
    for dtype in BOTH {
        // The kernels have no f64: there the layer computes in f32.
        let x = x.to_dtype(dtype).unwrap();
        let layer =
            Linear::new(matrix(Weight::Dense(weight.clone()), DType::F32), Some(bias.clone()));
        check_close(&layer.forward(&x).unwrap(), &product);
    }
}

#[test]
fn a_norms_weight_and_bias_are_one_number_a_column() {
    let (x, weight, bias) = (noise(1, &[N, N]), noise(2, &[N]), noise(3, &[N]));
    let (values, scale, shift) = (wide(&x), wide(&weight), wide(&bias));
    let expected = over(2, |p| {
        let row = &values[p[0] * N..][..N];
        let mean = row.iter().sum::<f64>() / N as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / N as f64;
        (row[p[1]] - mean) / (variance + 1e-6).sqrt() * scale[p[1]] + shift[p[1]]
    });
    for dtype in BOTH {
        let [x, weight, bias] = [&x, &weight, &bias].map(|t| t.to_dtype(dtype).unwrap());
        let normed =
            fused::layer_norm(Kernels::detect(), &x, Some((&weight, &bias)), 1e-6).unwrap();
        check_close(&normed, &expected);
    }
}

#[test]
fn shift_scale_and_gate_are_of_the_tokens_own_row() {
    // As many videos as tokens, rows, components and columns.
    let (x, branch) = (noise(1, &[N, N, N]), noise(2, &[N, N, N]));
    let table = noise(3, &[N, N, N, N]);
    let index: Vec<Vec<u32>> =
        (0..N).map(|b| (0..N).map(|l| ((2 * l + b) % N) as u32).collect()).collect();
    let (values, added, rows) = (wide(&x), wide(&branch), wide(&table));
    let of = |p: &[usize], component: usize| {
        let row = index[p[0]][p[1]] as usize;
        rows[((p[0] * N + row) * N + component) * N + p[2]]
    };
    let at = |p: &[usize]| (p[0] * N + p[1]) * N + p[2];
    let normed = over(3, |p| {
        let row = &values[(p[0] * N + p[1]) * N..][..N];
        let mean = row.iter().sum::<f64>() / N as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / N as f64;
        (values[at(p)] - mean) / (variance + 1e-6).sqrt()
    });
    let modulated = over(3, |p| normed[at(p)] * (1. + of(p, 4)) + of(p, 1));
    let gated = over(3, |p| values[at(p)] + added[at(p)] * of(p, 5));
    for dtype in BOTH {
        let [x, branch, table] = [&x, &branch, &table].map(|t| t.to_dtype(dtype).unwrap());
        let table = Rows::new(table, index.clone().into()).unwrap();
        check_close(
            &fused::modulated_norm(Kernels::detect(), &x, (&table, 1, 4), 1e-6).unwrap(),
            &modulated,
        );
        check_close(&fused::add_gated(&x, &branch, &table, 5).unwrap(), &gated);
    }
}

#[test]
fn a_latents_mean_and_deviation_are_one_number_a_channel() {
    let (means, deviations) = ([0.5, -1., 2., 0., 3., -0.25], [2., 0.25, 1., 4., 0.5, 8.]);
    let config = VaeConfig {
        base_dim: 2,
        z_dim: N,
        dim_mult: vec![1, 1],
        num_res_blocks: 1,
        temperal_downsample: vec![true],
        scale_factor_temporal: 2,
        scale_factor_spatial: 2,
        latents_mean: means.into(),
        latents_std: deviations.into(),
        ..VaeConfig::wan_2_1()
    };
    let vae = Vae::load(config, any_weights(1)).unwrap();
    let latents = noise(2, &[N; 5]);
    let (values, mut place) = (wide(&latents), 0);
    let normal = over(5, |p| {
        place += 1;
        (values[place - 1] - means[p[1]]) / deviations[p[1]]
    });
    check_close(&vae.normalise(&latents).unwrap(), &normal);
    place = 0;
    let raw = over(5, |p| {
        place += 1;
        values[place - 1] * deviations[p[1]] + means[p[1]]
    });
    check_close(&vae.denormalise(&latents).unwrap(), &raw);
}

#[test]
fn a_mask_is_one_number_a_token() {
    // As many tokens as columns.
    let config = Umt5Config {
        vocab_size: 11,
        d_model: N,
        d_kv: 3,
        d_ff: N,
        num_layers: 1,
        num_heads: 2,
        ..Umt5Config::xxl()
    };
    let encoder = Umt5Encoder::load(config, any_weights(1)).unwrap();
    let row = |values: [u32; N]| Tensor::new(&[values], &Device::Cpu).unwrap();
    let ids = row([4, 7, 9, 1, 0, 0]);
    let embeds = encoder.prompt_embeds(&ids, &row([1, 1, 1, 1, 0, 0])).unwrap();
    for (token, numbers) in embeds.to_vec3::<f32>().unwrap()[0].iter().enumerate() {
        assert_eq!(numbers.iter().all(|number| *number != 0.), token < 4, "{token}: {numbers:?}");
        assert_eq!(numbers.iter().any(|number| *number != 0.), token < 4, "{token}: {numbers:?}");
    }
}

#[test]
fn pictures_in_a_batch_are_each_what_they_are_alone() {
    // As many tokens as columns, four patches and the class: five.
    let config = ClipVisionConfig {
        hidden_size: 5,
        intermediate_size: 5,
        num_hidden_layers: 2,
        num_attention_heads: 1,
        image_size: 4,
        patch_size: 2,
        hidden_act: Activation::Gelu,
        ..ClipVisionConfig::vit_h_14()
    };
    let clip = ClipVision::load(config, any_weights(1)).unwrap();
    let pictures = noise(2, &[5, 3, 4, 4]);
    let all = clip.penultimate(&pictures).unwrap();
    assert_eq!(all.dims(), [5, 5, 5]);
    for number in 0..5 {
        let one = clip.penultimate(&pictures.narrow(0, number, 1).unwrap()).unwrap();
        assert!(distance(&all.narrow(0, number, 1).unwrap(), &one) < 1e-5, "{number}");
    }
}
