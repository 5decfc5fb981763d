//! Tensors of a safetensors file as numbers, whatever they are stored in.
//!
//! candle has no format of integers of 8 bits, and its way from 8-bit floats to f64 does not end
//! for some of them (float8 0.7, `F8E4M3::to_f64`).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Tensors by name.
pub(super) type Tensors = HashMap<String, Numbers>;

/// A tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    pub(super) shape: Vec<usize>,
    /// Row by row.
    pub(super) numbers: Vec<f64>,
}

impl Numbers {
    /// Axes longer than 1.
    pub(super) fn long_axes(&self) -> Vec<usize> {
        self.shape.iter().copied().filter(|length| *length != 1).collect()
    }

    /// This one's rows, then those of another.
    pub(super) fn before(mut self, other: Self) -> Self {
        self.numbers.extend(other.numbers);
        match (self.shape.first_mut(), other.shape.first()) {
            (Some(rows), Some(more)) => *rows += more,
            _ => self.shape.push(2),
        }
        self
    }
}

/// All tensors of a file.
pub(super) fn read(path: &Path) -> Result<Tensors> {
    let about = || path.display().to_string();
    let bytes = fs::read(path).with_context(about)?;
    let file = SafeTensors::deserialize(&bytes).with_context(about)?;
    let tensors = file.tensors().into_iter();
    let tensors = tensors.map(|(name, tensor)| {
        let numbers = numbers(&tensor).with_context(|| format!("{}: {name}", path.display()))?;
        Ok((name, Numbers { shape: tensor.shape().to_vec(), numbers }))
    });
    tensors.collect()
}

fn numbers(tensor: &TensorView<'_>) -> Result<Vec<f64>> {
    let bytes = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |raw| f32::from_le_bytes(raw).into()),
        Dtype::F16 => each(bytes, |raw| short(u16::from_le_bytes(raw), 5, 10)),
        Dtype::BF16 => each(bytes, |[low, high]| f32::from_le_bytes([0, 0, low, high]).into()),
        // No infinity: the highest exponent is one of numbers, but for the last.
        Dtype::F8_E4M3 => each(bytes, |[raw]| match raw {
            0x7f | 0xff => f64::NAN,
            _ => finite(raw.into(), 4, 3),
        }),
        Dtype::F8_E5M2 => each(bytes, |[raw]| short(raw.into(), 5, 2)),
        Dtype::I64 => each(bytes, |raw| i64::from_le_bytes(raw) as f64),
        Dtype::I32 => each(bytes, |raw| i32::from_le_bytes(raw).into()),
        Dtype::I8 => each(bytes, |raw| i8::from_le_bytes(raw).into()),
        Dtype::U8 | Dtype::BOOL => each(bytes, |[raw]| raw.into()),
        other => bail!("{other:?} is no format of numbers that is compared"),
    })
}

/// Numbers of `N` bytes.
fn each<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|raw| of(*raw)).collect()
}

/// A float of IEEE 754's form, with so many bits of exponent and fraction.
fn short(bits: u16, exponent: i32, fraction: i32) -> f64 {
    let above = (bits >> fraction) & ((1 << exponent) - 1);
    let is_highest = above == (1 << exponent) - 1;
    let sign = if bits >> (exponent + fraction) == 0 { 1. } else { -1. };
    match (is_highest, bits & ((1 << fraction) - 1)) {
        (true, 0) => sign * f64::INFINITY,
        (true, _) => f64::NAN,
        (false, _) => finite(bits, exponent, fraction),
    }
}

/// The same where every pattern is a number.
fn finite(bits: u16, exponent: i32, fraction: i32) -> f64 {
    let sign = if bits >> (exponent + fraction) == 0 { 1. } else { -1. };
    let above = i32::from((bits >> fraction) & ((1 << exponent) - 1));
    let below = f64::from(bits & ((1 << fraction) - 1)) / f64::from(1 << fraction);
    let bias = (1 << (exponent - 1)) - 1;
    match above {
        0 => sign * below * 2f64.powi(1 - bias),
        _ => sign * (1. + below) * 2f64.powi(above - bias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_8_and_16_bits_are_what_their_formats_say() {
        let e4m3 = |bits: u16| finite(bits, 4, 3);
        assert_eq!(
            [0x01, 0x08, 0x38, 0x7e, 0xb8].map(e4m3),
            [0.001953125, 0.015625, 1., 448., -1.]
        );
        let e5m2 = |bits: u16| short(bits, 5, 2);
        assert_eq!([0x3c, 0x7b, 0xfc].map(e5m2), [1., 57344., f64::NEG_INFINITY]);
        let f16 = |bits: u16| short(bits, 5, 10);
        assert_eq!([0x3c00, 0x7bff, 0x8001].map(f16), [1., 65504., -5.960464477539063e-8]);
        assert!(f16(0x7c01).is_nan() && e5m2(0x7d).is_nan());
    }
}
