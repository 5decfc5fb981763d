//! Random tensors and weights for tests. Each test names its seeds, so that failures repeat.

use candle_core::{DType, Device, Tensor};

use crate::config::WanConfig;
use crate::error::Result;
use crate::matrix::Matrix;
use crate::published;
use crate::weights::{Scope, Source, Weight};

/// Normally distributed numbers from a seed.
struct Draw(u64);

impl Draw {
    /// Another 64 bits (SplitMix64, Steele and others 2014).
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In 0..1, without 0.
    fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Of mean 0 and deviation 1 (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2. * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn tensor(&mut self, deviation: f64, shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| (deviation * self.normal()) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }
}

/// Random weights for every name and shape, independent of the order of requests. (The zeros of a
/// `VarMap` would hide errors.)
struct AnyWeights(u64);

impl Source for AnyWeights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        let inputs = shape.iter().skip(1).product::<usize>().max(1);
        // Each name draws its own (FNV-1a).
        let seed = name.bytes().fold(self.0 ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Ok(Weight::Dense(Draw(seed).tensor((inputs as f64).sqrt().recip(), shape)))
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

/// Random f32 weights under any name.
pub(crate) fn any_weights(seed: u64) -> Scope {
    Scope::new(AnyWeights(seed), DType::F32, &Device::Cpu)
}

/// The transformer of the published model of this id.
pub(crate) fn transformer(id: &str) -> WanConfig {
    published::find(id).unwrap().transformer.clone()
}

/// A normally distributed f32 tensor.
pub(crate) fn noise(seed: u64, shape: &[usize]) -> Tensor {
    Draw(seed).tensor(1., shape)
}

/// One weight, under any name.
pub(crate) struct One(pub(crate) Weight);

impl Source for One {
    fn get(&self, _: &str, _: &[usize]) -> Result<Weight> {
        Ok(self.0.clone())
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

/// A weight as a matrix on the CPU.
pub(crate) fn matrix(weight: Weight, compute: DType) -> Matrix {
    let shape = weight.matrix_shape();
    Scope::new(One(weight), compute, &Device::Cpu).matrix(shape, "weight").unwrap()
}

/// All numbers of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference between two tensors; infinite if a difference is NaN.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = |(a, b): (&f32, f32)| (a - b).abs();
    let worst = |most: f32, d: f32| if d.is_nan() { f32::INFINITY } else { most.max(d) };
    numbers(a).iter().zip(numbers(b)).map(difference).fold(0., worst)
}

/// Checks that most pixels of a picture in -1..=1 are not clamped: comparing clamped pictures would
/// prove nothing.
#[track_caller]
pub(crate) fn assert_mostly_unclamped(picture: &Tensor) {
    let pixels = numbers(picture);
    let inside = pixels.iter().filter(|pixel| pixel.abs() < 0.999).count();
    assert!(inside * 2 > pixels.len(), "{inside} of {} pixels are not clamped", pixels.len());
}

#[test]
fn a_seed_and_a_name_decide_every_number() {
    let weight = |seed, name| numbers(&any_weights(seed).get((8, 8), name).unwrap());
    assert_eq!(weight(1, "a"), weight(1, "a"));
    assert_ne!(weight(1, "a"), weight(2, "a"));
    assert_ne!(weight(1, "a"), weight(1, "b"));
    assert_eq!(numbers(&noise(3, &[4, 5])), numbers(&noise(3, &[20])));
    let drawn = numbers(&noise(4, &[10_000]));
    let mean = |power: i32| drawn.iter().map(|x| x.powi(power)).sum::<f32>() / 10_000.;
    assert!(mean(1).abs() < 0.05 && (mean(2) - 1.).abs() < 0.05 && (mean(4) - 3.).abs() < 0.3);
}

#[test]
#[should_panic(expected = "0 of 8 pixels are not clamped")]
fn a_clamped_picture_proves_nothing() {
    assert_mostly_unclamped(&Tensor::ones(8, DType::F32, &Device::Cpu).unwrap());
}
