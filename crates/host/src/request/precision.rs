//! Number formats that a transformer is computed in.

use candle_core::DType;
use serde::{Deserialize, Serialize};
use wan_model::{Numerics, ResidualStream};

/// Number formats of the transformer; see [`Numerics`] for what stays f32 whatever they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// Weights of the blocks, and what enters their products.
    pub dtype: Format,
    /// Whether what one block hands to the next is in that format too (SkyReels-V2, diffusers), or
    /// f32 (Wan's original).
    pub narrow_stream: bool,
}

/// A number format that a transformer can be computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float with 8 bits of exponent.
    Bf16,
    /// 16-bit float with 5 bits of exponent.
    F16,
}

impl Format {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;

    /// Its number, from 0.
    pub(crate) fn number(self) -> usize {
        self as usize
    }

    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// `f32`, `bf16` or `f16`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "f16" => Some(Self::F16),
            _ => None,
        }
    }
}

impl From<Format> for DType {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::BF16,
            Format::F16 => Self::F16,
        }
    }
}

impl From<Precision> for Numerics {
    fn from(precision: Precision) -> Self {
        let compute = precision.dtype.into();
        let stream =
            if precision.narrow_stream { ResidualStream::Compute } else { ResidualStream::F32 };
        Self { compute, stream }
    }
}
