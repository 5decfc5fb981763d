//! Rounds: the latent frames that are evaluated together, the noise level of each, and the
//! attention between them.

use serde::{Deserialize, Serialize};

pub use crate::epoch1::FrameLevel;

impl FrameLevel {
    /// A frame that the step moves from `sigma` to `sigma_next`.
    pub fn moving(frame: u32, timestep: f64, sigma: f64, sigma_next: f64) -> Self {
        Self { frame, update: true, wants_velocity: true, timestep, sigma, sigma_next }
    }

    /// A frame that is context only and keeps its level. Its velocity is not asked for.
    pub fn frozen(frame: u32, timestep: f64, sigma: f64) -> Self {
        let sigma_next = sigma;
        Self { frame, update: false, wants_velocity: false, timestep, sigma, sigma_next }
    }

    /// The same level, with the velocity there asked for: of a frame that the host keeps and the
    /// sampler moves by itself, say.
    #[must_use]
    pub fn with_velocity(self) -> Self {
        Self { wants_velocity: true, ..self }
    }

    /// `sigma_next - sigma`: negative, or 0 for a frame that is not updated.
    pub fn change(&self) -> f64 {
        self.sigma_next - self.sigma
    }
}

/// The tokens that a token of one latent frame attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// All tokens of the window.
    #[default]
    Bidirectional,
    /// Tokens of its own block of this many latent frames, and of the blocks before.
    BlockCausal(u32),
}

impl Attention {
    /// Frames of a block; 0 where all tokens see all.
    pub(crate) fn block_frames(self) -> u32 {
        match self {
            Self::Bidirectional => 0,
            Self::BlockCausal(frames) => frames,
        }
    }

    /// The attention of blocks of so many frames; 0: all tokens see all.
    pub(crate) fn of_blocks(frames: u32) -> Self {
        if frames == 0 { Self::Bidirectional } else { Self::BlockCausal(frames) }
    }
}

/// One call of [`Sampler::step`](crate::Sampler::step): a window of latent frames, each at its own
/// noise level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The frames of the window, ascending and without gaps.
    pub levels: Vec<FrameLevel>,
    /// The attention between them.
    pub attention: Attention,
    /// Model evaluations of the step: 1 for Euler and multistep methods, 2 for Heun.
    pub evaluations: u32,
}

impl Round {
    /// Number in the video of the window's first latent frame.
    pub fn first_frame(&self) -> usize {
        self.levels.first().map_or(0, |l| l.frame as usize)
    }

    /// Latent frames in the window.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// True for a window without frames, which no valid schedule has.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

/// The position of a [`Sampler::step`](crate::Sampler::step) in the schedule.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Number of the round, from 0.
    pub index: usize,
    /// Model evaluations before this round.
    pub evaluation: u32,
    /// Model evaluations from this round on, itself included.
    pub evaluations_left: u32,
    /// The round itself.
    pub round: &'a Round,
}
