//! The frames that the model sees in place of finished ones: a prefix with a little noise, and
//! frames of an overlap that are sampled a second time.
//!
//! The host's latents do not change: a finished frame keeps its bits.

use std::ops::Range;

use wan_plugin_api::{Result, Step, Tensor, TensorOps, term};

use crate::chunk::Chunk;

/// Noise stream of a prefix; the index is the number of the round.
const PREFIX_NOISE: u64 = 0;

/// Noise stream of resampled frames at their start; the index is the number of the chunk.
const RESAMPLED_NOISE: u64 = 1;

/// The noise on a prefix, and the resampled frames of the current chunk.
pub(crate) struct Context {
    /// Timestep of the prefix, 0 or more; noise of that level is added to what the model sees.
    pub(crate) prefix_timestep: f64,
    /// The resampled frames of the chunk after the last round.
    pub(crate) resampled: Option<Tensor>,
}

impl Context {
    /// Adds noise of sigma `addnoise_condition / 1000` to every prefix.
    pub(crate) fn new(addnoise_condition: u32) -> Self {
        Self { prefix_timestep: f64::from(addnoise_condition), resampled: None }
    }

    /// The window with its resampled frames in their current state.
    pub(crate) fn with_resampled(
        &self,
        sample: &Tensor,
        number: usize,
        chunk: &Chunk,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        if chunk.resampled == 0 {
            return Ok(sample.clone());
        }
        let frames = resampled_frames(chunk);
        match &self.resampled {
            Some(so_far) => replaced(sample, frames, so_far, ops),
            None => {
                let like = part(sample, &frames, ops)?;
                let noise = ops.noise_like(&like, RESAMPLED_NOISE, number as u64)?;
                replaced(sample, frames, &noise, ops)
            }
        }
    }

    /// `moved` with the host's finished frames in place of the resampled ones, which are kept for
    /// the chunk's next round.
    pub(crate) fn without_resampled(
        &mut self,
        moved: &Tensor,
        sample: &Tensor,
        chunk: &Chunk,
        is_last: bool,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        if chunk.resampled == 0 {
            return Ok(moved.clone());
        }
        let frames = resampled_frames(chunk);
        self.resampled = if is_last { None } else { Some(part(moved, &frames, ops)?) };
        let finished = part(sample, &frames, ops)?;
        replaced(moved, frames, &finished, ops)
    }

    /// The window with noise on the prefix (image or overlap).
    ///
    /// The noise is new in every round, as in the references. Theirs comes from a global generator,
    /// this one from the request's seed.
    pub(crate) fn with_prefix_noise(
        &self,
        sample: &Tensor,
        step: &Step<'_>,
        chunk: &Chunk,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let prefix_end = chunk.first + chunk.layout.prefix_frames;
        let noisy = 0..prefix_end.saturating_sub(step.round.first_frame()).min(step.round.len());
        if noisy.is_empty() || self.prefix_timestep == 0.0 {
            return Ok(sample.clone());
        }
        let prefix = part(sample, &noisy, ops)?;
        let noise = ops.noise_like(&prefix, PREFIX_NOISE, step.index as u64)?;
        let sigma = 0.001 * self.prefix_timestep;
        let prefix = ops.combine(&[term(1.0 - sigma, &prefix), term(sigma, &noise)])?;
        replaced(sample, noisy, &prefix, ops)
    }
}

/// The resampled frames, counted from the first of the chunk.
fn resampled_frames(chunk: &Chunk) -> Range<usize> {
    chunk.layout.prefix_frames..chunk.overlap()
}

/// Frames of a tensor; the same handle if they are all of its frames.
pub(crate) fn part(whole: &Tensor, frames: &Range<usize>, ops: &dyn TensorOps) -> Result<Tensor> {
    if frames.len() == whole.form().frames as usize {
        return Ok(whole.clone());
    }
    ops.narrow_frames(whole, frames.start, frames.len())
}

/// The parts joined along the frame axis.
pub(crate) fn joined(parts: &[Tensor], ops: &dyn TensorOps) -> Result<Tensor> {
    match parts {
        [only] => Ok(only.clone()),
        _ => ops.cat_frames(&parts.iter().collect::<Vec<_>>()),
    }
}

/// `whole` with `frames` replaced by another tensor.
fn replaced(
    whole: &Tensor,
    frames: Range<usize>,
    by: &Tensor,
    ops: &dyn TensorOps,
) -> Result<Tensor> {
    let rest = frames.end..whole.form().frames as usize;
    let mut parts = Vec::with_capacity(3);
    if frames.start > 0 {
        parts.push(part(whole, &(0..frames.start), ops)?);
    }
    parts.push(by.clone());
    if !rest.is_empty() {
        parts.push(part(whole, &rest, ops)?);
    }
    joined(&parts, ops)
}
