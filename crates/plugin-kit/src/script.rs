//! A script: the stream of evaluations that a cache is driven along.

use wan_plugin_api::{CacheContext, Choice, DType, FrameLevel, ModelIdentity, Place};

use crate::fake_model::{DIM, FakeModel, distinct_timesteps};
use crate::levels::Levels;

/// One stream: the levels of its evaluations, its guidance branch, and the model behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Levels of each evaluation, one per latent frame.
    pub levels: Levels,
    /// Guidance branch: `cond` or `uncond`.
    pub branch: &'static str,
    /// The model that makes the signals and computes the residuals.
    pub model: FakeModel,
    /// Choice of the leading branch at each evaluation; empty without a leader.
    pub leaders: Vec<Choice>,
}

impl Script {
    /// The branch `cond` over these levels, without a leader.
    pub fn new(levels: Levels, model: FakeModel) -> Self {
        Self { levels, branch: "cond", model, leaders: Vec::new() }
    }

    /// The context that a cache for this stream is made with.
    pub fn context(&self) -> CacheContext {
        let small = small_context(self.levels.len() as u32);
        CacheContext {
            branch: self.branch.into(),
            steps: steps(&self.levels) as u32,
            model: ModelIdentity { dim: DIM as u32, layers: 2, ..small.model },
            frames: self.levels.first().map_or(0, Vec::len) as u32,
            frame_tokens: self.model.tokens as u32,
            timesteps_max: timesteps_max(&self.levels) as u32,
            dtype: self.model.dtype,
            frame_output_elements: (self.model.tokens * FakeModel::LATENT_CHANNELS) as u64,
            keep: self.model.keep,
            ..small
        }
    }
}

/// The context of a stream of `evaluations` steps on the branch `cond`: one expert, two latent
/// frames of one token, hidden width 1, one block, f32, kept on the device. Tests change what they
/// need.
pub fn small_context(evaluations: u32) -> CacheContext {
    CacheContext {
        branch: "cond".into(),
        expert: 0,
        evaluations,
        evaluations_before: 0,
        evaluations_after: 0,
        steps: evaluations,
        experts: 1,
        model: ModelIdentity {
            variant: "df".into(),
            dim: 1,
            layers: 1,
            in_channels: 16,
            hash: String::new(),
        },
        frames: 2,
        frame_tokens: 1,
        timesteps_max: 2,
        dtype: DType::F32,
        signal_dtype: DType::F32,
        frame_output_elements: 1,
        keep: Place::Device,
    }
}

/// Largest number of distinct timesteps in one evaluation.
fn timesteps_max(levels: &Levels) -> usize {
    levels.iter().map(|levels| distinct_timesteps(levels).len()).max().unwrap_or(0)
}

/// Largest number of updates that one frame gets.
fn steps(levels: &Levels) -> usize {
    let frames = levels.first().map_or(0, Vec::len);
    let moves = |frame: usize, levels: &[FrameLevel]| levels.get(frame).is_some_and(|l| l.update);
    (0..frames).map(|f| levels.iter().filter(|l| moves(f, l)).count()).max().unwrap_or(0)
}
