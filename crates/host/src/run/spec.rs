//! What a run is to do: shape, sampler, what latents begin as, and the denoiser's parts.

use candle_core::Tensor as CandleTensor;
use wan_border::numbers::u32_of;
use wan_plugin_api::SampleRequest;

use crate::denoise::parts::DenoiserParts;
use crate::error::Result;
use crate::latents::LATENT_FRAME_AXIS;
use crate::plugins::registry::Chosen;
use crate::request::on_nan::OnNan;
use crate::run::frames::Source;
use crate::run::handover::Earlier;

/// What a run is to do.
pub struct RunSpec {
    /// Shape of the latents, `[1, C, F, H, W]`.
    pub shape: [usize; 5],
    /// What the other frames begin as.
    pub beginning: Beginning,
    /// Whether frames may be noisy in the end.
    pub may_end_noisy: bool,
    /// What is done with numbers that no video has.
    pub on_nan: OnNan,
    /// The sampler.
    pub sampler: Chosen,
    /// Flow shift.
    pub shift: f64,
    /// Pixel frames that a latent frame stands for, the first one excepted.
    pub temporal_scale: u32,
    /// Model, text, guidance, cache.
    pub parts: DenoiserParts,
}

/// What latents begin as.
pub enum Beginning {
    /// Noise, drawn frame by frame, so that a longer video begins with the same frames.
    Noise,
    /// These, with the clean frames in front, whatever levels the schedule begins at.
    Latents(CandleTensor),
    /// Those that an earlier run ended with, at the levels that the schedule begins at.
    Earlier(Earlier),
}

impl RunSpec {
    pub(crate) fn request(&self) -> SampleRequest {
        SampleRequest {
            frames: u32_of(self.shape[LATENT_FRAME_AXIS]),
            prefix_frames: u32_of(self.parts.conditions.prefix_frames()),
            steps: self.parts.steps,
            shift: self.shift,
            temporal_scale: self.temporal_scale,
        }
    }

    /// Where the latents come from of a run whose frames begin at the sigmas that `begins` gives.
    ///
    /// # Errors
    /// If those of an earlier run do not fit.
    pub(crate) fn source(&self, begins: impl FnOnce() -> Result<Vec<f64>>) -> Result<Source> {
        let prefix = self.parts.conditions.prefix.as_ref();
        Ok(match &self.beginning {
            Beginning::Noise => Source::Noise(prefix.cloned()),
            Beginning::Latents(latents) => Source::Given(latents.clone()),
            Beginning::Earlier(earlier) => {
                let device = self.parts.ops.device();
                Source::Given(earlier.go_on(&self.shape, &begins()?, prefix, device)?)
            }
        })
    }
}
