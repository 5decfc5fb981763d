//! Samplers: where on the noise schedule each latent frame goes next.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{FrameLevel, Message, OptionSpec, Result, Schedule, Step, Tensor, TensorOps};

/// A sampler. One object serves one request.
///
/// Called from one thread at a time, not always the same one. A panic becomes an error of the
/// run; the object is not used again after one.
pub trait Sampler: Sized + Send + 'static {
    /// The struct that the complete options are read into.
    type Options: DeserializeOwned;
    /// Name in `--sampler NAME`: lower case, digits, `-`, `.`; unique among all samplers.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;

    /// What it can be told.
    fn options() -> Vec<OptionSpec> {
        Vec::new()
    }

    /// Extensions this sampler answers to, by id.
    fn extensions() -> Vec<String> {
        Vec::new()
    }

    /// Checks the settings against the request.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot work, with what to change.
    fn new(options: Self::Options, request: &SampleRequest) -> Result<Self>;

    /// All rounds of the request. Asked once, right after `new`; no tensor exists yet.
    fn schedule(&self) -> Result<Schedule>;

    /// Carries the window's frames from `sigma` to `sigma_next`.
    ///
    /// `sample` holds the frames of `step.round`, f32, `[1, C, frames, H, W]`; the result has the
    /// same form. Frames that are not updated must keep their bits.
    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;

    /// Answers an extension that [`extensions`](Self::extensions) lists.
    ///
    /// # Errors
    /// `Unsupported` for any other id.
    fn extension(&mut self, id: &str, _message: Message) -> Result<Message> {
        Err(crate::Error::unsupported(format!("{} has no extension {id}", Self::ID)))
    }
}

/// The model, as a sampler sees it.
pub trait Denoise {
    /// The flow velocity `noise - x0` at `sample`, guidance applied, f32, in the form of `sample`.
    ///
    /// `levels` are those of the round's frames, changed where the step asks at another point
    /// (Heun's second evaluation, noise added to a prefix). Only `timestep` reaches the model.
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor>;
}

/// What is to be sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRequest {
    /// Latent frames in all, a clean prefix included.
    pub frames: u32,
    /// Latent frames that the model takes at once.
    pub window_frames: u32,
    /// Clean latent frames at the start, already in the sample.
    pub prefix_frames: u32,
    /// Inference steps per frame.
    pub steps: u32,
    /// Flow shift: `sigma' = shift * sigma / (1 + (shift - 1) * sigma)`.
    pub shift: f64,
    /// Pixel frames that one latent frame stands for, the first one excepted.
    #[serde(default = "SampleRequest::wan_temporal_scale")]
    pub temporal_scale: u32,
}

impl SampleRequest {
    /// The noise level that `sigma` becomes under the flow shift: exactly 1 at 1 and 0 at 0, where
    /// the usual way of writing it is a rounding error above 1 for some shifts.
    pub fn shifted(&self, sigma: f64) -> f64 {
        self.shift * sigma / (1.0 - sigma + self.shift * sigma)
    }

    fn wan_temporal_scale() -> u32 {
        4
    }
}
