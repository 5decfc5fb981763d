//! Random weights: a block of numbers, repeated to the length of each tensor. A network that has them
//! takes as long as one that was trained.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use wan_model::weights::{Encoding, Quantised, Scaled, Source, Weight};
use wan_model::{Error, Result};
use wan_tests::dice::Dice;

/// Numbers of the block: whole blocks of every format.
const COUNT: usize = 1 << 16;

/// What the matrices of a network's layers are in; everything else is f32.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    F32,
    Bf16,
    Q4K,
    Fp8,
}

/// Weights of any name and shape.
pub(crate) struct Random {
    form: Form,
    block: Vec<f32>,
    /// The block in blocks of Q4_K, by its spread.
    quantised: Mutex<HashMap<u32, Vec<u8>>>,
}

/// Numbers between -1 and 1, the same ones for the same seed.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut dice = Dice::new(seed, 0);
    let block: Vec<f32> =
        (0..COUNT).map(|_| dice.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0).collect();
    block.into_iter().cycle().take(count).collect()
}

/// A tensor of such numbers.
pub(crate) fn tensor(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let count = shape.iter().product();
    Ok(Tensor::from_vec(numbers(seed, count), shape, &Device::Cpu)?)
}

impl Random {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, block: numbers(1, COUNT), quantised: Mutex::default() }
    }

    /// Numbers about `middle`, in f32 or bf16.
    fn dense(&self, shape: &[usize], (middle, spread): (f32, f32), dtype: DType) -> Result<Weight> {
        let block = self.block.iter().map(|n| middle + spread * n);
        let count = shape.iter().product();
        let tensor = match dtype {
            DType::BF16 => {
                let block: Vec<bf16> = block.map(bf16::from_f32).collect();
                Tensor::from_vec(repeated(&block, count), shape, &Device::Cpu)?
            }
            _ => {
                let block: Vec<f32> = block.collect();
                Tensor::from_vec(repeated(&block, count), shape, &Device::Cpu)?
            }
        };
        Ok(Weight::Dense(tensor))
    }

    fn quantised(&self, shape: &[usize], spread: f32) -> Result<Weight> {
        let mut made = self.quantised.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match made.entry(spread.to_bits()) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(new) => {
                let block = self.block.iter().map(|n| spread * n).collect();
                let block = Tensor::from_vec(block, (COUNT / 256, 256), &Device::Cpu)?;
                new.insert(QTensor::quantize(&block, GgmlDType::Q4K)?.data()?.into_owned())
            }
        };
        let encoding = Encoding::Q4K;
        let count = bytes(encoding, shape)?;
        let bytes = repeated(block, count);
        Ok(Weight::Quantised(Quantised { bytes, encoding, shape: shape.to_vec() }))
    }

    /// One factor for all: every number of a byte below 64, and its negative, is below 2.
    fn scaled(&self, shape: &[usize], spread: f32) -> Result<Weight> {
        let mut dice = Dice::new(2, 0);
        let block: Vec<u8> = (0..COUNT).map(|_| (dice.bits() & 0xbf) as u8).collect();
        let (encoding, shape) = (Encoding::F8E4M3, shape.to_vec());
        let bytes = repeated(&block, bytes(encoding, &shape)?);
        Ok(Weight::Scaled(Scaled { bytes, encoding, shape, factors: vec![spread] }))
    }
}

fn repeated<T: Copy>(block: &[T], count: usize) -> Vec<T> {
    block.iter().copied().cycle().take(count).collect()
}

fn bytes(encoding: Encoding, shape: &[usize]) -> Result<usize> {
    let bytes = encoding.bytes(shape.iter().product());
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| Error::Config(format!("{shape:?} is no shape of whole blocks")))
}

impl Source for Random {
    /// Norms near 1, biases near 0, matrices so that a layer keeps the size of what enters it.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        let inputs: usize = shape.iter().skip(1).product();
        let is_norm = shape.len() == 1 && name.ends_with("weight") || name.ends_with("gamma");
        let spread = match (is_norm, shape.len()) {
            (true, _) => return self.dense(shape, (1.0, 0.1), DType::F32),
            (_, 1) => return self.dense(shape, (0.0, 0.1), DType::F32),
            _ => (3.0 / inputs as f32).sqrt(),
        };
        let is_of_layer = name.contains("block") && shape.len() == 2;
        match self.form {
            Form::Q4K if is_of_layer && inputs.is_multiple_of(256) => self.quantised(shape, spread),
            Form::Fp8 if is_of_layer => self.scaled(shape, spread),
            Form::Bf16 => self.dense(shape, (0.0, spread), DType::BF16),
            _ => self.dense(shape, (0.0, spread), DType::F32),
        }
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}
