//! What there is to see of a run that is under way.

use candle_core::Tensor as CandleTensor;

use crate::error::Result;
use crate::run::Run;

impl Run {
    /// Latents `[1, C, n, H, W]` to look at, of frames that follow each other: what the model has
    /// predicted of the clean ones in the round before, over its window; else those that are held.
    /// None where the run holds none. Nothing is made or computed for it but a sum.
    ///
    /// # Errors
    /// If shapes do not agree.
    pub fn glimpse(&self) -> Result<Option<CandleTensor>> {
        let (first, held) = self.frames.state();
        let seen = self.denoiser.predicted()?.or(held.map(|held| (first, held)));
        let finish = |(first, latents): (usize, CandleTensor)| {
            self.denoiser.parts.conditions.finish(&latents, first)
        };
        Ok(seen.map(finish).transpose()?)
    }
}
