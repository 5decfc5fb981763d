//! The VAE on random weights: sizes, streams, and the tiled convolution against candle's.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use wan_kernels::Kernels;

use super::*;
use crate::broadcasts::{BOTH, N, check_close, over, wide};
use crate::testing::{any_weights, assert_mostly_unclamped, distance, noise, numbers};
use crate::vae::conv::{Conv, Geometry, channel_norm};
use crate::weights::Scope;

mod middle;

fn tiny() -> Vae {
    Vae::load(tiny_config(), any_weights(2)).unwrap()
}

fn tiny_config() -> VaeConfig {
    VaeConfig {
        base_dim: 4,
        z_dim: 2,
        dim_mult: vec![1, 2, 2],
        num_res_blocks: 1,
        temperal_downsample: vec![false, true],
        scale_factor_temporal: 2,
        scale_factor_spatial: 4,
        latents_mean: vec![0.5, -1.],
        latents_std: vec![2., 0.25],
        ..VaeConfig::wan_2_1()
    }
}

/// The same with what Wan 2.2 has besides.
fn tiny_residual() -> Vae {
    let config = VaeConfig {
        decoder_base_dim: Some(6),
        is_residual: true,
        in_channels: 12,
        out_channels: 12,
        patch_size: Some(2),
        scale_factor_spatial: 8,
        ..tiny_config()
    };
    Vae::load(config, any_weights(2)).unwrap()
}

#[test]
fn a_stream_gives_the_bits_of_the_whole() {
    for vae in [tiny(), tiny_residual()] {
        let (latents, factor) = (noise(1, &[1, 2, 3, 4, 6]), vae.config().scale_factor_spatial);
        let whole = vae.decode(&latents).unwrap();
        assert_eq!(whole.dims(), [1, 3, 5, 4 * factor, 6 * factor]);
        assert_mostly_unclamped(&whole);
        assert_eq!(numbers(&decoded(vae.decoder(), &latents)), numbers(&whole));
        let latents = vae.encode(&whole).unwrap();
        let (mean, logvar) = encoded(vae.encoder(), &whole);
        assert_eq!(numbers(&mean), numbers(&latents.mean));
        assert_eq!(numbers(&logvar), numbers(&latents.logvar));
    }
}

/// What a stream makes of latents, frame by frame.
fn decoded(mut stream: VaeDecoder, latents: &Tensor) -> Tensor {
    let frames = (0..latents.dim(2).unwrap()).map(|frame| {
        let pixels = stream.next(&latents.narrow(2, frame, 1).unwrap()).unwrap();
        assert_eq!(pixels.dim(2).unwrap(), if frame == 0 { 1 } else { 2 });
        pixels
    });
    Tensor::cat(&frames.collect::<Vec<_>>(), 2).unwrap()
}

/// What a stream makes of a video, chunk by chunk: mean and log-variance.
fn encoded(mut stream: VaeEncoder, video: &Tensor) -> (Tensor, Tensor) {
    let (mut means, mut logvars, mut start) = (Vec::new(), Vec::new(), 0);
    while start < video.dim(2).unwrap() {
        let chunk = video.narrow(2, start, stream.chunk_frames()).unwrap();
        start += stream.chunk_frames();
        let posterior = stream.next(&chunk).unwrap();
        means.push(posterior.mean);
        logvars.push(posterior.logvar);
    }
    (Tensor::cat(&means, 2).unwrap(), Tensor::cat(&logvars, 2).unwrap())
}

#[test]
fn a_stream_in_tiles_gives_the_bits_of_the_whole_in_tiles() {
    for vae in [tiny(), tiny_residual()] {
        let (latents, factor) = (noise(1, &[1, 2, 3, 5, 7]), vae.config().scale_factor_spatial);
        let tiling = Tiling { min: 3 * factor, stride: 2 * factor };
        let whole = vae.decode_tiled(&latents, tiling).unwrap();
        assert_eq!(whole.dims(), [1, 3, 5, 5 * factor, 7 * factor]);
        assert_eq!(numbers(&decoded(vae.decoder_tiled(tiling), &latents)), numbers(&whole));
        let plain = vae.decode(&latents).unwrap();
        assert_mostly_unclamped(&plain);
        assert_mostly_unclamped(&whole);
        assert_ne!(numbers(&plain), numbers(&whole));

        let tiled = vae.encode_tiled(&plain, tiling).unwrap();
        assert_eq!(tiled.mean.dims(), latents.dims());
        let (mean, logvar) = encoded(vae.encoder_tiled(tiling), &plain);
        assert_eq!(numbers(&mean), numbers(&tiled.mean));
        assert_eq!(numbers(&logvar), numbers(&tiled.logvar));
        let one = Tiling { min: 8 * factor, stride: factor };
        assert_eq!(numbers(&vae.decode_tiled(&latents, one).unwrap()), numbers(&plain));
    }
}

#[test]
fn what_a_stream_keeps_does_not_grow_with_its_length() {
    for vae in [tiny(), tiny_residual()] {
        let tiling = Tiling { min: 16, stride: 8 };
        for (mut decoder, mut encoder) in
            [(vae.decoder(), vae.encoder()), (vae.decoder_tiled(tiling), vae.encoder_tiled(tiling))]
        {
            let mut held = Vec::new();
            for _ in 0..6 {
                let pixels = decoder.next(&noise(1, &[1, 2, 1, 3, 4])).unwrap();
                encoder.next(&pixels).unwrap();
                held.push((decoder.held_bytes(), encoder.held_bytes()));
            }
            assert!(held[2].0 > 0 && held[2].1 > 0);
            assert!(held[2..].iter().all(|bytes| *bytes == held[2]), "{held:?}");
        }
    }
}

#[test]
fn a_stream_in_tiles_keeps_its_size() {
    let vae = tiny();
    let mut stream = vae.decoder_tiled(Tiling { min: 12, stride: 8 });
    stream.next(&noise(1, &[1, 2, 1, 5, 7])).unwrap();
    let error = stream.next(&noise(2, &[1, 2, 1, 5, 9])).unwrap_err().to_string();
    assert!(error.contains("the chunks before"), "{error}");
}

#[test]
fn later_frames_change_nothing_before_them() {
    let (vae, video) = (tiny(), noise(1, &[1, 3, 5, 16, 8]));
    let whole = vae.encode(&video).unwrap();
    assert_eq!(whole.mean.dims(), [1, 2, 3, 4, 2]);
    let start = vae.encode(&video.narrow(2, 0, 3).unwrap()).unwrap();
    assert_eq!(numbers(&whole.mean.narrow(2, 0, 2).unwrap()), numbers(&start.mean));
    assert_eq!(numbers(&whole.logvar.narrow(2, 0, 2).unwrap()), numbers(&start.logvar));
}

#[test]
fn normalise_by_hand_and_back() {
    let vae = tiny();
    let latents = Tensor::new(&[4.5f32, -0.5], &Device::Cpu).unwrap();
    let latents = latents.reshape((1, 2, 1, 1, 1)).unwrap();
    let normal = vae.normalise(&latents).unwrap();
    assert_eq!(numbers(&normal), [2., 2.]);
    assert_eq!(numbers(&vae.denormalise(&normal).unwrap()), [4.5, -0.5]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let vae = tiny();
    assert!(vae.encode(&noise(1, &[1, 3, 4, 16, 8])).is_err());
    assert!(vae.encode(&noise(2, &[1, 3, 5, 15, 8])).is_err());
    assert!(vae.decode(&noise(3, &[1, 3, 1, 4, 4])).is_err());
    let residual = tiny_residual();
    assert!(residual.encode(&noise(4, &[1, 3, 5, 16, 12])).is_err());
    assert!(residual.encode(&noise(5, &[1, 12, 5, 16, 8])).is_err());
}

#[test]
fn the_tiled_convolution_equals_candles() {
    let shapes = [
        Geometry::POINT,
        Geometry::CUBE,
        Geometry::TIME_HALVED,
        Geometry::DOUBLED,
        Geometry::HALVED,
    ];
    for geometry in shapes {
        let weight = noise(1, &[7, 5, geometry.taps, geometry.kernel, geometry.kernel]);
        let weights = [("weight", weight), ("bias", noise(2, &[7]))];
        let weights = HashMap::from(weights.map(|(name, w)| (name.to_owned(), w)));
        let [tiled, composed] = [DType::F32, DType::F64].map(|dtype| {
            let scope = Scope::new(weights.clone(), dtype, &Device::Cpu);
            Conv::load(5, 7, geometry, scope).unwrap()
        });
        let x = noise(3, &[2, 5, 5, 6, 10]);
        let ours = tiled.forward(&x).unwrap();
        let theirs = composed.forward(&x.to_dtype(DType::F64).unwrap()).unwrap();
        let theirs = theirs.to_dtype(DType::F32).unwrap();
        assert_eq!(ours.dims(), theirs.dims(), "{geometry:?}");
        assert!(distance(&ours, &theirs) < 5e-5, "{geometry:?}");
    }
}

#[test]
fn the_fused_norm_equals_its_composition() {
    let gamma = noise(1, &[5]);
    let x = noise(2, &[2, 3, 5, 30, 40]);
    let (wide, wide_gamma) = (x.to_dtype(DType::F64).unwrap(), gamma.to_dtype(DType::F64).unwrap());
    for silu in [false, true] {
        let fused = channel_norm(Kernels::detect(), &x, &gamma, silu).unwrap();
        let composed = channel_norm(Kernels::detect(), &wide, &wide_gamma, silu).unwrap();
        assert!(distance(&fused, &composed.to_dtype(DType::F32).unwrap()) < 1e-5);
    }
}

#[test]
fn a_convolutions_bias_and_a_norms_gamma_are_one_number_a_channel() {
    let (x, gamma) = (noise(1, &[N; 5]), noise(4, &[N]));
    let (weight, bias) = (noise(2, &[N, N, 1, 1, 1]), noise(3, &[N]));
    let (values, scale) = (wide(&x), wide(&gamma));
    let (factors, shift) = (wide(&weight), wide(&bias));
    let at = |p: &[usize], c: usize| values[(((p[0] * N + p[1]) * N + c) * N + p[3]) * N + p[4]];
    let convolved =
        over(5, |p| (0..N).map(|c| factors[p[2] * N + c] * at(p, c)).sum::<f64>() + shift[p[2]]);
    let normed = over(5, |p| {
        let squares = (0..N).map(|c| at(p, c).powi(2)).sum::<f64>();
        at(p, p[2]) / squares.sqrt() * scale[p[2]] * (N as f64).sqrt()
    });
    let silu: Vec<f64> = normed.iter().map(|x| x / (1. + (-x).exp())).collect();
    let weights = [("weight".to_owned(), weight), ("bias".to_owned(), bias)];
    for dtype in BOTH {
        let weights: HashMap<_, _> = weights.clone().into_iter().collect();
        let scope = Scope::new(weights, dtype, &Device::Cpu);
        let conv = Conv::load(N, N, Geometry::POINT, scope).unwrap();
        let [x, gamma] = [&x, &gamma].map(|t| t.to_dtype(dtype).unwrap());
        check_close(&conv.forward(&x).unwrap(), &convolved);
        check_close(&channel_norm(Kernels::detect(), &x, &gamma, false).unwrap(), &normed);
        check_close(&channel_norm(Kernels::detect(), &x, &gamma, true).unwrap(), &silu);
    }
}

/// By hand: latents of one pixel, 8 channels that become 4 by the way up to 4x4 pixels.
#[test]
fn the_work_of_decoding_is_that_counted_by_hand() {
    // On one pixel: to the first 8 channels, four convolutions of the middle and its attention, four of
    // the first level.
    let point = 2 * 2 * 2 + 2 * 2 * 27 * 8;
    let middle = 4 * (2 * 8 * 27 * 8) + 2 * 8 * 24 + 2 * 8 * 8;
    let first_level = 4 * (2 * 8 * 27 * 8);
    // On 4 pixels: doubled to 4 channels, then to 8 with a shortcut, and twice more.
    let second_level = 4 * (2 * 8 * 9 * 4 + 2 * 4 * 27 * 8 + 2 * 4 * 8 + 3 * 2 * 8 * 27 * 8);
    // On 16 pixels: doubled to 4 channels, four convolutions, and the colours.
    let third_level = 16 * (2 * 8 * 9 * 4 + 4 * (2 * 4 * 27 * 4) + 2 * 4 * 27 * 3);
    let first = point + middle + first_level + second_level + third_level;
    assert_eq!(first, 154_856);
    // Later frames are two after the first level.
    let doubling = 2 * 8 * 3 * 16;
    let later = point + middle + first_level + doubling + 2 * (second_level + third_level);
    let work = tiny().decoding((3, 1, 1));
    assert_eq!((work.convolutions, work.attention), (first + 2 * later, 3 * 4 * 8));
}
