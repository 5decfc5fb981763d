//! Observation of intermediate tensors, and the early end of a forward pass.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// A place in the forward pass of the transformer, an encoder or the VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Latents after the patch embedding `[B,L,D]`.
    PatchTokens,
    /// Timestep sinusoid, distinct rows `[B,K,freq_dim]`.
    TimeSinusoid,
    /// Time embedding `e`, distinct rows `[B,K,D]`.
    TimeEmbedding,
    /// Time projection `e0` before any frame-rate term, distinct rows `[B,K,6,D]`.
    TimeProjection,
    /// Text embedding `[B,T,D]`.
    TextContext,
    /// Image embedding `[B,T,D]`, of models that take image tokens.
    ImageContext,
    /// Inside block number `.0`.
    Block(usize, BlockPoint),
    /// Input of the output projection `[B,L,D]`.
    HeadIn,
    /// Output of the output projection `[B,L,pt ph pw C]`.
    HeadOut,
    /// Text encoder: hidden state before layer `.0`, `[B,T,d_model]`.
    TextHidden(usize),
    /// Image encoder: hidden state before layer `.0`, `[B,T,D]`.
    ImageHidden(usize),
    /// VAE, of each chunk: what enters layer `.0` of its encoder or decoder, `[B,T,C,H,W]`.
    VaeHidden(usize),
}

/// A place inside a transformer block; all tensors `[B,L,D]`. Names are diffusers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPoint {
    /// Layer norm before self-attention, not yet modulated.
    Norm1,
    /// Self-attention queries after their norm, before the split into heads and rotation.
    Attn1Query,
    /// Self-attention keys after their norm, before the split into heads and rotation.
    Attn1Key,
    /// Self-attention output, not yet gated.
    Attn1,
    /// Layer norm before cross-attention.
    Norm2,
    /// Cross-attention output.
    Attn2,
    /// Feed-forward output, not yet gated.
    Ffn,
    /// Output of the block.
    Out,
}

/// Receives intermediate tensors, possibly on another thread than the caller's, and can end the
/// pass. `()` receives none.
pub trait Observer: Send {
    /// Whether to assemble tensors for this observer: blocks work on runs of tokens, so whole
    /// intermediate tensors exist only if they are observed.
    fn looks(&self) -> bool {
        true
    }

    /// Called once per point and forward pass, in order; for the points of a block, when it is
    /// done.
    fn see(&mut self, point: Point, tensor: &Tensor);

    /// Whether the pass is to end here, with [`Error::Stopped`]. Asked before every block of a
    /// transformer and every layer of an encoder or of the VAE.
    fn stops(&self) -> bool {
        false
    }
}

impl Observer for () {
    fn looks(&self) -> bool {
        false
    }

    fn see(&mut self, _: Point, _: &Tensor) {}
}

/// Lets the observer end the pass.
///
/// # Errors
/// [`Error::Stopped`] where it does.
pub(crate) fn check(observer: &dyn Observer) -> Result<()> {
    if observer.stops() { Err(Error::Stopped) } else { Ok(()) }
}
