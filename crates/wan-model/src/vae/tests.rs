//! The VAE on random weights: sizes, streams, and the tiled convolution against candle's.

use std::collections::HashMap;

use candle_core::{DType, Device};

use super::*;
use crate::testing::{any_weights, distance, noise, numbers};
use crate::vae::conv::{Conv, Geometry, channel_norm};

fn tiny() -> Vae {
    let config = VaeConfig {
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
    };
    Vae::load(config, any_weights()).unwrap()
}

#[test]
fn a_stream_gives_the_bits_of_the_whole() {
    let (vae, latents) = (tiny(), noise(&[1, 2, 3, 4, 6]));
    let whole = vae.decode(&latents).unwrap();
    assert_eq!(whole.dims(), [1, 3, 5, 16, 24]);
    assert!(numbers(&whole).iter().any(|pixel| pixel.abs() > 0.01 && pixel.abs() < 1.));
    let mut decoder = vae.decoder();
    let mut seen = 0;
    for frame in 0..3 {
        let pixels = decoder.next(&latents.narrow(2, frame, 1).unwrap()).unwrap();
        let frames = if frame == 0 { 1 } else { 2 };
        let same = whole.narrow(2, seen, frames).unwrap();
        assert_eq!(numbers(&pixels), numbers(&same), "latent frame {frame}");
        seen += frames;
    }
}

#[test]
fn later_frames_change_nothing_before_them() {
    let (vae, video) = (tiny(), noise(&[1, 3, 5, 16, 8]));
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
    assert!(vae.encode(&noise(&[1, 3, 4, 16, 8])).is_err());
    assert!(vae.encode(&noise(&[1, 3, 5, 15, 8])).is_err());
    assert!(vae.decode(&noise(&[1, 3, 1, 4, 4])).is_err());
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
        let weight = noise(&[7, 5, geometry.taps, geometry.kernel, geometry.kernel]);
        let weights = [("weight", weight), ("bias", noise(&[7]))];
        let weights = HashMap::from(weights.map(|(name, w)| (name.to_owned(), w)));
        let [tiled, composed] = [DType::F32, DType::F64].map(|dtype| {
            let vb = VarBuilder::from_tensors(weights.clone(), dtype, &Device::Cpu);
            Conv::load(5, 7, geometry, vb).unwrap()
        });
        let x = noise(&[2, 5, 5, 6, 10]);
        let ours = tiled.forward(&x).unwrap();
        let theirs = composed.forward(&x.to_dtype(DType::F64).unwrap()).unwrap();
        let theirs = theirs.to_dtype(DType::F32).unwrap();
        assert_eq!(ours.dims(), theirs.dims(), "{geometry:?}");
        assert!(distance(&ours, &theirs) < 5e-5, "{geometry:?}");
    }
}

#[test]
fn the_fused_norm_equals_its_composition() {
    let gamma = noise(&[5]);
    let x = noise(&[2, 3, 5, 30, 40]);
    let (wide, wide_gamma) = (x.to_dtype(DType::F64).unwrap(), gamma.to_dtype(DType::F64).unwrap());
    for silu in [false, true] {
        let fused = channel_norm(&x, &gamma, silu).unwrap();
        let composed = channel_norm(&wide, &wide_gamma, silu).unwrap();
        assert!(distance(&fused, &composed.to_dtype(DType::F32).unwrap()) < 1e-5);
    }
}
