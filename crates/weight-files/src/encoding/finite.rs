//! Where the numbers of a tensor stop being finite.

use super::{Encoding, floats};

/// Items that are looked at before it is asked whether one was found.
const RUN: usize = 1024;

impl Encoding {
    /// Index of the first number in `bytes` whose f32 is NaN or infinite; none for integers and for
    /// formats that are not read. Of blocks only the scales are looked at: no integers in a block
    /// make a number that is not finite of scales that are. Bytes behind the last whole block are
    /// passed over.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        let first = match self {
            Self::F64 => first(bytes, |b| !floats::f64(b).is_finite()),
            Self::F32 => first(bytes, |b| !f32::from_le_bytes(*b).is_finite()),
            Self::F16 => first(bytes, |b: &[u8; 2]| is_special(b[1])),
            Self::BF16 => first(bytes, |b| u16::from_le_bytes(*b) & 0x7f80 == 0x7f80),
            Self::F8E4M3 => first(bytes, |b: &[u8; 1]| b[0] & 0x7f == 0x7f),
            Self::F8E5M2 => first(bytes, |b: &[u8; 1]| is_special(b[0])),
            Self::Q4_0 | Self::Iq4Nl => first(bytes, |b: &[u8; 18]| is_special(b[1])),
            Self::Q4_1 => first(bytes, |b: &[u8; 20]| is_special(b[1]) | is_special(b[3])),
            Self::Q5_0 => first(bytes, |b: &[u8; 22]| is_special(b[1])),
            Self::Q5_1 => first(bytes, |b: &[u8; 24]| is_special(b[1]) | is_special(b[3])),
            Self::Q8_0 => first(bytes, |b: &[u8; 34]| is_special(b[1])),
            Self::Q2K => first(bytes, |b: &[u8; 84]| is_special(b[81]) | is_special(b[83])),
            Self::Q3K => first(bytes, |b: &[u8; 110]| is_special(b[109])),
            Self::Q4K => first(bytes, |b: &[u8; 144]| is_special(b[1]) | is_special(b[3])),
            Self::Q5K => first(bytes, |b: &[u8; 176]| is_special(b[1]) | is_special(b[3])),
            Self::Q6K => first(bytes, |b: &[u8; 210]| is_special(b[209])),
            Self::Iq4Xs => first(bytes, |b: &[u8; 136]| is_special(b[1])),
            Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 => None,
            Self::Bool | Self::Other(_) => None,
        };
        first.map(|item| item * self.block())
    }
}

/// Whether an f16 with this high byte is NaN or infinite.
fn is_special(high: u8) -> bool {
    high & 0x7c == 0x7c
}

/// The first item of which `is` says so. Within a run all are asked, so that the loop has no exit.
fn first<const BYTES: usize>(bytes: &[u8], is: impl Fn(&[u8; BYTES]) -> bool) -> Option<usize> {
    let items = bytes.as_chunks().0;
    let run = items.chunks(RUN).position(|run| run.iter().fold(false, |any, b| any | is(b)))?;
    let within = items[run * RUN..].iter().position(is)?;
    Some(run * RUN + within)
}
