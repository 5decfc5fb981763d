//! What a model sees in place of finished frames: a prefix with a little noise on it, and frames
//! of an overlap that are sampled a second time.
//!
//! The host's latents do not change by it: a finished frame keeps its bits.

use std::ops::Range;

use wan_plugin_api::{Result, Step, Tensor, TensorOps, term};

use crate::chunks::Chunk;

/// Stream of the noise that is added to a prefix; the index is the number of the round.
const PREFIX_NOISE: u64 = 0;

/// Stream of the noise that resampled frames start from; the index is the number of the chunk.
const RESAMPLED_NOISE: u64 = 1;

/// What is shown, and what has to be kept for it.
pub(crate) struct Context {
    /// What the model is told of a clean prefix: 0, or a little, with noise of that level added.
    pub(crate) prefix_timestep: f64,
    /// The frames of the chunk that are being sampled a second time.
    pub(crate) resampled: Option<Tensor>,
}

impl Context {
    /// With noise of `addnoise_condition` thousandths on every prefix.
    pub(crate) fn new(addnoise_condition: u32) -> Self {
        Self { prefix_timestep: f64::from(addnoise_condition), resampled: None }
    }

    /// The window with resampled frames as far as they have come.
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

    /// `moved` with the frames that the host holds in place of resampled ones, which are kept for
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

    /// The window with noise on the prefix, image or overlap.
    ///
    /// Fresh noise in every round, as the references have it; theirs comes from a global generator,
    /// this from the request's seed.
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

/// Places of the resampled frames in the chunk, which is its own window.
fn resampled_frames(chunk: &Chunk) -> Range<usize> {
    chunk.layout.prefix_frames..chunk.overlap()
}

/// Frames of a tensor; the tensor itself where they are all.
pub(crate) fn part(whole: &Tensor, frames: &Range<usize>, ops: &dyn TensorOps) -> Result<Tensor> {
    match frames.len() == whole.form().frames as usize {
        true => Ok(whole.clone()),
        false => ops.narrow_frames(whole, frames.start, frames.len()),
    }
}

/// Parts one behind the other.
pub(crate) fn joined(parts: &[Tensor], ops: &dyn TensorOps) -> Result<Tensor> {
    match parts {
        [only] => Ok(only.clone()),
        _ => ops.cat_frames(&parts.iter().collect::<Vec<_>>()),
    }
}

/// `whole` with other frames in one place.
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
