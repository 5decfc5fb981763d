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

    /// The rounds of the request: all of them, or the first ones of many, with how many there are
    /// in all ([`Schedule::part_of`]). Called right after `new`, before any tensor exists.
    ///
    /// # Errors
    /// Any error ends the run before it starts.
    fn schedule(&self) -> Result<Schedule>;

    /// The rounds from number `round` on, for a schedule that is given in parts: at least one, as
    /// many as the sampler likes. The host asks for a part when it comes to it, and again for the
    /// same one when a run is planned or resumed; the answer depends on options, request and
    /// `round` alone. A day of video is half a million rounds.
    ///
    /// # Errors
    /// `Failed` where [`schedule`](Self::schedule) gives all rounds at once.
    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        let id = Self::ID;
        Err(crate::Error::failed(format!(
            "{id} gives its schedule at once, not from round {round}"
        )))
    }

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
    fn extension(&mut self, id: &str, _message: Message, _ops: &dyn TensorOps) -> Result<Message> {
        Err(crate::Error::unsupported(format!("{} has no extension {id}", Self::ID)))
    }
}

/// The rounds of a sampler from this one on: of round 0, the first part or all.
///
/// # Errors
/// The error of the sampler; `Failed` for a number that no round can have.
pub(crate) fn part_of_schedule<S: Sampler>(sampler: &S, from: u64) -> Result<Schedule> {
    match usize::try_from(from) {
        Ok(0) => sampler.schedule(),
        Ok(round) => sampler.schedule_from(round),
        Err(_) => Err(crate::Error::failed(format!("there is no round {from}"))),
    }
}

/// The model, as a sampler sees it.
pub trait Denoise {
    /// The flow velocity `noise - x0` at `sample` with classifier-free guidance applied; f32, in
    /// the form of `sample`.
    ///
    /// `levels` are the levels of the round's frames, changed where the step evaluates at another
    /// point (Heun's second evaluation, noise added to a prefix). `timestep` reaches the model, and
    /// [`wants_velocity`](FrameLevel::wants_velocity) says which frames are asked for: the others
    /// are context, and come back as zeros.
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
