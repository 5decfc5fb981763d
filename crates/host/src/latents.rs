//! Latents: `[1, C, F, H, W]`, f32, normalised as the model has them.

/// Axis of the latent frames.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;
