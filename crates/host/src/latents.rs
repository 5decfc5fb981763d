//! Latents: `[1, C, F, H, W]`, f32, normalised as the model has them.

use candle_core::Tensor;

/// Axis of the latent frames.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;

/// `latents` with the frames from `first` on replaced by `window`.
pub(crate) fn replace_frames(
    latents: &Tensor,
    first: usize,
    window: &Tensor,
) -> candle_core::Result<Tensor> {
    let (frames, len) = (latents.dims()[LATENT_FRAME_AXIS], window.dims()[LATENT_FRAME_AXIS]);
    if len == frames {
        return Ok(window.clone());
    }
    let before = latents.narrow(LATENT_FRAME_AXIS, 0, first)?;
    let after = latents.narrow(LATENT_FRAME_AXIS, first + len, frames - first - len)?;
    Tensor::cat(&[&before, window, &after], LATENT_FRAME_AXIS)
}
