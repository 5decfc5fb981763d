//! What a run leaves behind, at its end or before it.

use crate::denoise::tally::Tally;
use crate::error::{Error, Result};
use crate::run::{Run, Sampled};

impl Run {
    /// What the run leaves behind, once [`round`](Self::round) has nothing more to do.
    ///
    /// # Errors
    /// If rounds are left.
    pub fn finish(self) -> Result<Sampled> {
        if !self.rounds.is_empty() {
            return Err(Error::invalid(format!(
                "{} of {} rounds are done; a run is finished after its last one",
                self.rounds.next(),
                self.rounds.size().rounds
            )));
        }
        let ends = self.rounds.ends().to_vec();
        self.end(ends)
    }

    /// What the rounds that are done leave behind, of a run that has failed or will not go on:
    /// latents that are still noisy, with the sigma of each frame, and what is known of their making.
    ///
    /// # Errors
    /// If no round is done.
    pub fn finish_early(self) -> Result<Sampled> {
        if self.rounds.next() == 0 {
            return Err(Error::invalid("no round is done"));
        }
        // A frame that none of them has moved is where its first one would begin.
        let begins = self.rounds.begins(&*self.sampler)?;
        let reached = self.reached.iter().zip(begins);
        let ends = reached.map(|(reached, begins)| reached.unwrap_or(begins)).collect();
        self.end(ends)
    }

    /// `ends` has the sigma of each latent frame.
    fn end(mut self, ends: Vec<f64>) -> Result<Sampled> {
        self.denoiser.end();
        let sampler_bytes_max = self.sampler_bytes_max();
        let (first, latents) = (self.frames.first(), self.frames.all()?);
        let streamed = self.denoiser.streamed();
        let Tally { records, decisions, frames, signals, cache_memory, cache_plan } =
            self.denoiser.tally;
        Ok(Sampled {
            latents: self.denoiser.parts.conditions.finish(&latents, first)?,
            records,
            decisions,
            frames,
            signals,
            cache_memory,
            cache_plan,
            experts: self.experts,
            sampler_bytes_max,
            boundary_bytes_max: self.boundary_bytes_max,
            device_memory: self.device_memory,
            streamed,
            ends_at: if ends.iter().all(|sigma| *sigma == 0.0) { Vec::new() } else { ends },
            notices: self.notices,
            seconds: self.seconds,
        })
    }
}
