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

impl From<Precision> for Numerics {
    fn from(precision: Precision) -> Self {
        let compute = match precision.dtype {
            Format::F32 => DType::F32,
            Format::Bf16 => DType::BF16,
            Format::F16 => DType::F16,
        };
        let stream =
            if precision.narrow_stream { ResidualStream::Compute } else { ResidualStream::F32 };
        Self { compute, stream }
    }
}
