//! Frames that a window takes over from the one before, through the VAE and back.

use candle_core::Tensor;

use crate::cancel::Cancel;
use crate::error::Result;

/// Who has a VAE.
pub(crate) trait Reencode {
    /// Latents `[1, C, F, H, W]`, decoded and encoded again: the first of them then stands for a
    /// single pixel frame.
    ///
    /// # Errors
    /// If the VAE cannot be loaded or refuses them; `Cancelled` once `cancel` is set.
    fn reencode(&self, latents: &Tensor, cancel: &Cancel) -> Result<Tensor>;
}
