//! What a run is done with and need not hold: latent frames that no later round reads, and records of
//! evaluations.

use candle_core::Tensor as CandleTensor;

use crate::denoise::tally::EvaluationRecord;
use crate::error::Result;
use crate::latents::LATENT_FRAME_AXIS;
use crate::run::Run;

/// What a run has handed out.
#[derive(Debug, Clone, Default)]
pub struct HandedOut {
    /// Number of the first of the latent frames.
    pub first: usize,
    /// Frames as [`Sampled`](crate::Sampled) has them, `[1, C, 1, H, W]` f32 each, in order, with the
    /// sigma that each ends at.
    pub frames: Vec<(CandleTensor, f64)>,
    /// Decisions of evaluations, in order.
    pub records: Vec<EvaluationRecord>,
}

impl Run {
    /// Hands out what no later round reads, in order, and forgets it: what is handed out is in no
    /// [`state`](Self::state), and [`finish`](Self::finish) gives the rest alone. So a run of any length
    /// holds a window of frames.
    ///
    /// The first call goes through all rounds that are to come.
    ///
    /// # Errors
    /// What the sampler says when it is asked for its rounds; if the run has failed.
    pub fn hand_out(&mut self) -> Result<HandedOut> {
        self.check_whole()?;
        if self.last_readers.is_none() {
            self.last_readers = Some(self.rounds.last_readers(&*self.sampler)?);
        }
        let next = self.rounds.next();
        let is_done = |reader: &&Option<usize>| reader.is_none_or(|reader| reader < next);
        let (first, readers) = (self.frames.first(), self.last_readers.as_deref().unwrap_or(&[]));
        let count = readers[first..].iter().take_while(is_done).count();
        let mut handed_out = HandedOut { first, ..HandedOut::default() };
        if let Some(latents) = self.frames.take(first + count)? {
            let latents = self.denoiser.parts.conditions.finish(&latents, first)?;
            for place in 0..count {
                let frame = latents.narrow(LATENT_FRAME_AXIS, place, 1)?.contiguous()?;
                handed_out.frames.push((frame, self.reached[first + place].unwrap_or(0.0)));
            }
        }
        handed_out.records = std::mem::take(&mut self.denoiser.tally.records);
        Ok(handed_out)
    }
}
