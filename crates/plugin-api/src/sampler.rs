//! Samplers: the noise schedule of each latent frame, and the step from one noise level to the
//! next.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{FrameLevel, Message, OptionSpec, Result, Schedule, Step, Tensor, TensorOps};

/// A sampler. One object serves one request.
///
/// Called from one thread at a time, not always the same one. A panic becomes an error of the
/// run; the object is not used again after one.
pub trait Sampler: Sized + Send + 'static {
    /// The struct that the complete options deserialise into.
    type Options: DeserializeOwned;
    /// Name in `--sampler NAME`: lower case, digits, `-`, `.`; unique among all samplers.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;

    /// The options that it takes.
    fn options() -> Vec<OptionSpec> {
        Vec::new()
    }

    /// Ids of the extensions that it answers.
    fn extensions() -> Vec<String> {
        Vec::new()
    }

    /// Makes a sampler for one request.
    ///
    /// # Errors
    /// `Invalid` for options that cannot serve the request, with what to change.
    fn new(options: Self::Options, request: &SampleRequest) -> Result<Self>;

    /// All rounds of the request. Called once, right after `new`, before any tensor exists.
    ///
    /// # Errors
    /// Any error ends the run before it starts.
    fn schedule(&self) -> Result<Schedule>;

    /// Moves the window's frames from `sigma` to `sigma_next`.
    ///
    /// `sample` has the frames of `step.round`, f32, `[1, C, frames, H, W]`; the result has the
    /// same form. Frames that are not updated must keep their bits.
    ///
    /// # Errors
    /// Errors of `model` and `ops`, unchanged; `Failed` for the sampler's own.
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
    /// The flow velocity `noise - x0` at `sample` with classifier-free guidance applied; f32, in
    /// the form of `sample`.
    ///
    /// `levels` are the levels of the round's frames, changed where the step evaluates at another
    /// point (Heun's second evaluation, noise added to a prefix). Only `timestep` reaches the
    /// model.
    ///
    /// # Errors
    /// `Cancelled` if the user stopped the run; `Failed` if the model or the cache failed.
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor>;
}

/// The video to sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRequest {
    /// Latent frames of the video, including a clean prefix.
    pub frames: u32,
    /// Latent frames that the model can take at once.
    pub window_frames: u32,
    /// Clean latent frames at the start of the sample.
    pub prefix_frames: u32,
    /// Inference steps per frame.
    pub steps: u32,
    /// Flow shift: `sigma' = shift * sigma / (1 + (shift - 1) * sigma)`.
    pub shift: f64,
    /// Pixel frames per latent frame, except for the first, which has one.
    #[serde(default = "SampleRequest::wan_temporal_scale")]
    pub temporal_scale: u32,
}

impl SampleRequest {
    /// `sigma` after the flow shift: exactly 1 at 1 and 0 at 0. (The usual form of the formula can
    /// round to a value above 1.)
    pub fn shifted(&self, sigma: f64) -> f64 {
        self.shift * sigma / (1.0 - sigma + self.shift * sigma)
    }

    fn wan_temporal_scale() -> u32 {
        4
    }
}
