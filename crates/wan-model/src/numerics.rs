//! In which number formats a transformer computes and hands on.

use candle_core::DType;

use crate::error::{Error, Result};

/// Number formats of a transformer; the default is f32 throughout.
///
/// `compute` is the format of the blocks' matrices, and of what enters each matrix product and
/// each attention: queries, keys, values, the inputs of every linear layer. Everything else is
/// f32 whatever `compute` is: patch, time, text and image embeddings, norms, modulation, gates,
/// softmax, rotation, activations, the output projection, and the sums inside a block. So are
/// the sums of matrix products on the CPU, which widens as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numerics {
    /// `F32`, `BF16` or `F16`.
    pub compute: DType,
    /// What one block hands to the next.
    pub stream: ResidualStream,
}

/// The format in which the residual stream `[B,L,D]` goes from block to block. Inside a block the
/// sums are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResidualStream {
    /// f32, as Wan's original has it after its first gated sum (Wan2.1 9737cba, `WanAttentionBlock`).
    #[default]
    F32,
    /// The computation's format: half the memory. Rounded once at the end of each block, as in
    /// SkyReels-V2 abed76f; diffusers 0.42.1 (`WanTransformerBlock`) rounds after each of a
    /// block's three sums, which is less exact and saves nothing more.
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

    /// Refuses formats that nothing here computes in.
    pub(crate) fn check(self) -> Result<()> {
        match self.compute {
            DType::F32 | DType::BF16 | DType::F16 => Ok(()),
            other => Err(Error::input("compute dtype", "f32, bf16 or f16", other)),
        }
    }
}
