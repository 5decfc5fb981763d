//! The number formats of a transformer.

use candle_core::DType;

use crate::error::{Error, Result};

/// Number formats of a transformer; the default is f32 for everything.
///
/// `compute` is the format of the blocks' matrices and of the operands of every matrix product and
/// attention in a block: queries, keys, values, inputs of linear layers. Everything else is f32:
/// patch, time, text and image embeddings, norms, modulation, gates, softmax, rotation,
/// activations, the output projection, and the sums inside a block. On the CPU the sums of matrix
/// products are f32 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numerics {
    /// `F32`, `BF16` or `F16`.
    pub compute: DType,
    /// Format of the residual stream between blocks.
    pub stream: ResidualStream,
}

/// The number format of the residual stream `[B,L,D]` between blocks. Inside a block the sums are
/// f32 in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResidualStream {
    /// f32, as in Wan's original after its first gated sum (Wan2.1 9737cba, `WanAttentionBlock`).
    #[default]
    F32,
    /// [`Numerics::compute`]: half the memory. Rounded once, at the end of each block, as in
    /// SkyReels-V2 abed76f. diffusers 0.42.1 (`WanTransformerBlock`) rounds after each of a block's
    /// three sums, which is less exact and saves no more memory.
    Compute,
}

impl Default for Numerics {
    fn default() -> Self {
        Self { compute: DType::F32, stream: ResidualStream::F32 }
    }
}

impl Numerics {
    /// The dtype of the residual stream.
    pub fn stream_dtype(self) -> DType {
        match self.stream {
            ResidualStream::F32 => DType::F32,
            ResidualStream::Compute => self.compute,
        }
    }

    /// Refuses formats in which the model cannot compute.
    pub(crate) fn check(self) -> Result<()> {
        match self.compute {
            DType::F32 | DType::BF16 | DType::F16 => Ok(()),
            other => Err(Error::input("compute dtype", "f32, bf16 or f16", other)),
        }
    }
}
