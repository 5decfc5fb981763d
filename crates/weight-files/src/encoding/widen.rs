//! The numbers of a tensor as f32.

use super::{Encoding, blocks_32, blocks_256, floats};

impl Encoding {
    /// Whether [`widen`](Self::widen) reads its numbers: not truth values, nor formats that have no
    /// name here.
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Bool | Self::Other(_))
    }

    /// Writes the numbers that `bytes` hold to `numbers`. `bytes` may be any whole blocks of a
    /// tensor. Integers become the nearest f32, and so do f64; blocks give the bits that the `gguf`
    /// package for Python gives.
    ///
    /// False, and nothing is written, if `bytes` are not exactly so many `numbers` in whole blocks,
    /// or if the format [is not read](Self::is_read).
    #[must_use]
    pub fn widen(self, bytes: &[u8], numbers: &mut [f32]) -> bool {
        if !self.is_read() || self.bytes(numbers.len()) != Some(bytes.len() as u64) {
            return false;
        }
        match self {
            Self::Q4_0 => blocks(bytes, numbers, blocks_32::q4_0),
            Self::Q4_1 => blocks(bytes, numbers, blocks_32::q4_1),
            Self::Q5_0 => blocks(bytes, numbers, blocks_32::q5_0),
            Self::Q5_1 => blocks(bytes, numbers, blocks_32::q5_1),
            Self::Q8_0 => blocks(bytes, numbers, blocks_32::q8_0),
            Self::Iq4Nl => blocks(bytes, numbers, blocks_32::iq4_nl),
            Self::Q2K => blocks(bytes, numbers, blocks_256::q2_k),
            Self::Q3K => blocks(bytes, numbers, blocks_256::q3_k),
            Self::Q4K => blocks(bytes, numbers, blocks_256::q4_k),
            Self::Q5K => blocks(bytes, numbers, blocks_256::q5_k),
            Self::Q6K => blocks(bytes, numbers, blocks_256::q6_k),
            Self::Iq4Xs => blocks(bytes, numbers, blocks_256::iq4_xs),
            _ => self.widen_singles(bytes, numbers),
        }
        true
    }

    fn widen_singles(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F64 => singles(bytes, numbers, floats::f64),
            Self::F32 => singles(bytes, numbers, |b| f32::from_le_bytes(*b)),
            Self::F16 => singles(bytes, numbers, floats::f16),
            Self::BF16 => singles(bytes, numbers, floats::bf16),
            Self::F8E4M3 => singles(bytes, numbers, floats::e4m3),
            Self::F8E5M2 => singles(bytes, numbers, floats::e5m2),
            Self::I64 => singles(bytes, numbers, |b| i64::from_le_bytes(*b) as f32),
            Self::I32 => singles(bytes, numbers, |b| i32::from_le_bytes(*b) as f32),
            Self::I16 => singles(bytes, numbers, |b| f32::from(i16::from_le_bytes(*b))),
            Self::I8 => singles(bytes, numbers, |b| f32::from(i8::from_le_bytes(*b))),
            Self::U8 => singles(bytes, numbers, |b: &[u8; 1]| f32::from(b[0])),
            _ => {}
        }
    }
}

fn singles<const BYTES: usize>(
    bytes: &[u8],
    numbers: &mut [f32],
    widen: impl Fn(&[u8; BYTES]) -> f32,
) {
    for (bytes, number) in bytes.as_chunks().0.iter().zip(numbers) {
        *number = widen(bytes);
    }
}

fn blocks<const BYTES: usize, const NUMBERS: usize>(
    bytes: &[u8],
    numbers: &mut [f32],
    widen: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]),
) {
    for (block, numbers) in bytes.as_chunks().0.iter().zip(numbers.as_chunks_mut().0) {
        widen(block, numbers);
    }
}
