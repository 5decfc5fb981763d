//! Recordings: a run's evaluations as tensors, for caches to be evaluated on without the model.
//!
//! One safetensors file. Evaluation `i` (from 0, four digits) has
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `i.sample` | `[1, C, F, H, W]` | latents of the window |
//! | `i.e`, `i.e0` | `[K, D]`, `[K, 6, D]` | time signals, a row per distinct timestep |
//! | `i.BRANCH.hidden` | `[1, L, D]` | what enters the first block |
//! | `i.BRANCH.probe` | `[1, L, D]` | residual of the first block |
//! | `i.BRANCH.residual` | `[1, L, D]` | residual of all blocks |
//! | `i.BRANCH.velocity` | `[1, C, F, H, W]` | output |
//!
//! all f32 but for the hidden states and residuals, which have the residual stream's format. The
//! metadata's member `wan.recording` is the JSON of [`Contents`].

mod checks;
mod file;
pub mod recorder;
pub mod replay;

use serde::{Deserialize, Serialize};
use wan_host::SettingValues;
use wan_plugin_api::{CacheContext, FrameLevel};

pub use file::Recording;
pub use recorder::Recorder;
pub use replay::Replay;

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Member of the file's metadata.
pub(crate) const METADATA: &str = "wan.recording";

/// What a recording holds, besides its tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contents {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program that wrote it.
    pub wan: String,
    /// Settings of the run.
    pub settings: SettingValues,
    /// Streams of evaluations, in order.
    pub streams: Vec<RecordedStream>,
    /// Evaluations, in order.
    pub evaluations: Vec<RecordedEvaluation>,
}

/// One stream: what a cache of it would be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedStream {
    /// The context; its branch is that of the evaluation.
    pub context: CacheContext,
    /// Guidance branches.
    pub branches: Vec<String>,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedEvaluation {
    /// Its stream.
    pub stream: usize,
    /// Its number in the stream.
    pub index: u32,
    /// Levels of the window's frames.
    pub levels: Vec<FrameLevel>,
    /// Row of each frame in `e` and `e0`.
    pub rows: Vec<u32>,
    /// Per branch, what changed since the evaluation before; in the order of the branches.
    pub branches: Vec<RecordedChange>,
}

/// Per frame, what changed since the evaluation before it in its stream; empty for the first one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedChange {
    /// `|r|`, Euclidean norm of the blocks' residual.
    pub residual_norm: Vec<f64>,
    /// `|r| / |r before|`.
    pub residual_ratio: Vec<f64>,
    /// Cosine between `r` and `r before`.
    pub residual_cosine: Vec<f64>,
    /// `sum |r - r before| / sum |r before|`.
    pub residual_change: Vec<f64>,
    /// The same of the velocity.
    pub velocity_change: Vec<f64>,
}
