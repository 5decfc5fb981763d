//! One weight as its file has it: in floats, in 8 bits with factors, or in blocks.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use wan_weight_files::Encoding;

use crate::error::{Error, Result};

/// Numbers that one thread widens at a time: whole blocks of every format.
const AT_A_TIME: usize = 1 << 16;

/// A weight in the format of its file.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Numbers that stand for themselves, on the CPU.
    Dense(Tensor),
    /// Numbers of 8 bits, and what they are to be multiplied by.
    Scaled(Scaled),
    /// Blocks of numbers with scales of their own, as ggml defines them.
    Quantised(Quantised),
}

/// 8-bit numbers with factors along the rows.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// The numbers, row by row.
    pub bytes: Vec<u8>,
    /// `F8_E4M3`, `F8_E5M2` or `I8`.
    pub encoding: Encoding,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Factors of equal runs of numbers: one for all, one for each row, or some for each row.
    pub factors: Vec<f32>,
}

/// Blocks of numbers.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The blocks, row by row.
    pub bytes: Vec<u8>,
    /// A format of ggml.
    pub encoding: Encoding,
    /// Shape of the weight.
    pub shape: Vec<usize>,
}

impl Weight {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(tensor) => tensor.dims(),
            Self::Scaled(scaled) => &scaled.shape,
            Self::Quantised(blocks) => &blocks.shape,
        }
    }

    /// Its numbers on the CPU: those of a float format as they are, others in f32.
    ///
    /// # Errors
    /// [`Error::Input`] for bytes that are not those of the shape.
    pub fn wide(&self) -> Result<Tensor> {
        match self {
            Self::Dense(tensor) => Ok(tensor.clone()),
            Self::Scaled(scaled) => {
                let mut numbers = widened(scaled.encoding, &scaled.bytes, &scaled.shape)?;
                let run = (numbers.len() / scaled.factors.len().max(1)).max(1);
                numbers.par_chunks_mut(run).zip(&scaled.factors).for_each(|(numbers, factor)| {
                    numbers.iter_mut().for_each(|number| *number *= factor);
                });
                Ok(Tensor::from_vec(numbers, scaled.shape.as_slice(), &Device::Cpu)?)
            }
            Self::Quantised(blocks) => {
                let numbers = widened(blocks.encoding, &blocks.bytes, &blocks.shape)?;
                Ok(Tensor::from_vec(numbers, blocks.shape.as_slice(), &Device::Cpu)?)
            }
        }
    }

    /// Its numbers in `dtype` on `device`. They are rounded once, from their exact values in f32.
    ///
    /// # Errors
    /// As [`wide`](Self::wide).
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.wide()?.to_dtype(dtype)?.to_device(device)?)
    }

    /// The same numbers in another shape.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    pub fn reshape(mut self, to: &[usize]) -> Result<Self> {
        match &mut self {
            Self::Dense(tensor) => *tensor = tensor.reshape(to)?,
            Self::Scaled(Scaled { shape, .. }) | Self::Quantised(Quantised { shape, .. }) => {
                if shape.iter().product::<usize>() != to.iter().product::<usize>() {
                    return Err(Error::input("shape of a weight", format!("{to:?}"), shape));
                }
                to.clone_into(shape);
            }
        }
        Ok(self)
    }
}

fn widened(encoding: Encoding, bytes: &[u8], shape: &[usize]) -> Result<Vec<f32>> {
    let count: usize = shape.iter().product();
    let expected = encoding.bytes(count);
    if expected != Some(bytes.len() as u64) {
        let expected = format!("{expected:?} bytes of {} for {shape:?}", encoding.name());
        return Err(Error::input("weight", expected, bytes.len()));
    }
    let mut numbers = vec![0.; count];
    let bytes_at_a_time = AT_A_TIME / encoding.block() * encoding.block_bits() / 8;
    let chunks = numbers.par_chunks_mut(AT_A_TIME).zip(bytes.par_chunks(bytes_at_a_time));
    let read = chunks.all(|(numbers, bytes)| encoding.widen(bytes, numbers));
    if read { Ok(numbers) } else { Err(Error::input("weight", "a format of numbers", encoding)) }
}
