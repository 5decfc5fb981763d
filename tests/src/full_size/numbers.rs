//! Random numbers for tensors of full size: one block of them, repeated with a shift for each tensor.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use wan_tests::dice::Dice;
use wan_weight_files::{Encoding, TensorInfo};

/// Numbers of the block: 64 MiB in f32.
const COUNT: usize = 1 << 24;

/// The block in each format and spread that was asked for.
pub(crate) struct Numbers {
    block: Vec<f32>,
    made: HashMap<(Encoding, u32), Vec<u8>>,
}

impl Numbers {
    pub(crate) fn new() -> Self {
        let mut dice = Dice::new(1, 0);
        let block = (0..COUNT).map(|_| dice.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0);
        Self { block: block.collect(), made: HashMap::new() }
    }

    /// The bytes of a tensor: norms near 1, biases near 0, matrices so that a layer keeps the size of
    /// what enters it.
    pub(crate) fn bytes(&mut self, info: &TensorInfo) -> Result<Vec<u8>> {
        let inputs: usize = info.shape.iter().skip(1).product();
        let is_norm = info.shape.len() == 1 && info.name.ends_with("weight");
        let is_norm = is_norm || info.name.ends_with("gamma");
        let (middle, spread) = match (is_norm, info.shape.len()) {
            (true, _) => (1.0, 0.1),
            (_, 1) => (0.0, 0.1),
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        let key = (info.encoding, if is_norm { 0 } else { spread.to_bits() });
        if !self.made.contains_key(&key) {
            let numbers: Vec<f32> = self.block.iter().map(|n| middle + spread * n).collect();
            self.made.insert(key, encoded(numbers, info.encoding)?);
        }
        let block = &self.made[&key];
        // Whole blocks of every format.
        let step = 256 / info.encoding.block() * info.encoding.block_bits() / 8;
        let shift =
            info.name.bytes().fold(7usize, |sum, byte| sum * 31 % 65521 + usize::from(byte));
        let start = shift * step % block.len();
        let count = usize::try_from(info.bytes())?;
        let turned = block[start..].iter().chain(block.iter().cycle()).take(count);
        Ok(turned.copied().collect())
    }
}

fn encoded(numbers: Vec<f32>, encoding: Encoding) -> Result<Vec<u8>> {
    Ok(match encoding {
        Encoding::F32 => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        Encoding::BF16 => numbers.iter().flat_map(|n| bf16::from_f32(*n).to_le_bytes()).collect(),
        Encoding::Q4K => {
            let tensor = Tensor::from_vec(numbers, (COUNT / 256, 256), &Device::Cpu)?;
            let tensor = tensor.to_dtype(DType::F32)?;
            QTensor::quantize(&tensor, GgmlDType::Q4K)?.data()?.into_owned()
        }
        other => None.with_context(|| format!("{} is not written here", other.name()))?,
    })
}
