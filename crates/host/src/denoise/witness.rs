//! Who looks on while a model is evaluated, to record or to draw.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;
use wan_model::Embedded;
use wan_plugin_api::{CacheContext, FrameLevel};

use crate::error::Result;

/// Sees every evaluation of a run.
pub trait Witness {
    /// One branch of one evaluation.
    ///
    /// # Errors
    /// What keeps it from going on; the run ends with it.
    fn see(&mut self, seen: &Seen<'_>) -> Result<()>;
}

/// A witness as a run has it.
pub(crate) type RunWitness = Arc<Mutex<dyn Witness + Send>>;

/// What one evaluation looked like inside the model.
#[derive(Clone, Copy)]
pub struct Inside<'a> {
    /// What entered the blocks, and the time signals.
    pub embedded: &'a Embedded,
    /// Hidden states `[1, L, D]` after the first block; none where it did not run by itself.
    pub after_first_block: Option<&'a Tensor>,
    /// Hidden states `[1, L, D]` that the head was given.
    pub after: &'a Tensor,
}

/// One branch of one evaluation: what went in, what came out.
pub struct Seen<'a> {
    /// What a cache of this branch is told of its stream.
    pub context: CacheContext,
    /// Number of the evaluation in the stream, from 0.
    pub evaluation: u32,
    /// Levels of the window's frames.
    pub levels: &'a [FrameLevel],
    /// Latents of the window, `[1, C, F, H, W]`.
    pub sample: &'a Tensor,
    /// What went through the model; none where a cached output stands in for all of it.
    pub inside: Option<Inside<'a>>,
    /// The branch's velocity, `[1, C, F, H, W]`.
    pub velocity: &'a Tensor,
}
