//! A small model: what its signals are, and what its blocks would compute.
//!
//! Signals are smooth in the timestep, as the real ones are. What is computed differs at every
//! evaluation, so that a wrong reuse shows.

use wan_plugin_api::{DType, FrameLevel, Place, Signal};

use crate::ground::{Part, TimeRows};
use crate::levels::{Levels, distinct};

/// Width of the hidden states.
pub(crate) const DIM: usize = 4;

/// The model and its latents.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Another seed, another prompt and other noise.
    pub seed: u64,
    /// Tokens of a frame, and elements of its latents over [`World::LATENT_CHANNELS`].
    pub tokens: usize,
    /// Number of the first frame, as far as contents go.
    pub first_frame: u32,
    /// Number of the first evaluation, as far as contents go.
    pub first_evaluation: usize,
    /// Seed of frames that do not move any more; none: `seed`.
    pub resting_seed: Option<u64>,
    /// All frames have the same contents.
    pub equal_frames: bool,
    /// All signals, and all that is computed, are multiplied by this.
    pub scale: f32,
    /// Time signals have a row per token.
    pub rows_per_token: bool,
    /// One evaluation whose signals are spoilt.
    pub spoilt: Option<(usize, Spoilt)>,
    /// Evaluations with a token more.
    pub grown: std::ops::Range<usize>,
    /// Format of hidden states and residuals.
    pub dtype: DType,
    /// Where kept tensors are wanted.
    pub keep: Place,
}

/// What is wrong with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    /// An element of each frame is not a number.
    NotANumber,
    /// An element of each frame is infinite.
    Infinite,
    /// All of it is zero.
    Zero,
}

impl World {
    /// Elements of the latents for each token.
    pub const LATENT_CHANNELS: usize = 4;

    /// A world with two tokens a frame, in f32, kept on the device.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            tokens: 2,
            first_frame: 0,
            first_evaluation: 0,
            resting_seed: None,
            equal_frames: false,
            scale: 1.0,
            rows_per_token: false,
            spoilt: None,
            grown: 0..0,
            dtype: DType::F32,
            keep: Place::Device,
        }
    }

    /// Tokens of a frame at an evaluation.
    pub(crate) fn tokens_at(&self, evaluation: usize) -> usize {
        self.tokens + usize::from(self.grown.contains(&evaluation))
    }

    /// Elements of a signal that is not one of the time, or of what is computed.
    pub(crate) fn elements(&self, part: Part, evaluation: usize, levels: &Levels) -> Vec<f32> {
        let frame_elements = DIM * self.tokens_at(evaluation);
        let mut elements = Vec::with_capacity(frame_elements * levels[evaluation].len());
        for (frame, level) in levels[evaluation].iter().enumerate() {
            let rests = levels[evaluation..].iter().all(|l| l.get(frame).is_none_or(|l| !l.update));
            let seed = self.resting_seed.filter(|_| rests).unwrap_or(self.seed);
            let evaluation = self.first_evaluation + evaluation;
            let content = Content { part, seed, key: self.key(level), evaluation };
            elements.extend((0..frame_elements).map(|i| self.scale * content.at(level, i)));
        }
        self.spoil(part, evaluation, frame_elements, &mut elements);
        elements
    }

    /// A time signal.
    pub(crate) fn time_rows(
        &self,
        signal: Signal,
        evaluation: usize,
        levels: &[FrameLevel],
    ) -> TimeRows {
        let width = if signal == Signal::TimeProjection { 6 * DIM } else { DIM };
        let timesteps = distinct(levels);
        let mut rows: Vec<f32> = timesteps.iter().flat_map(|t| self.embedding(*t, width)).collect();
        self.spoil(Part::Signal(signal), evaluation, width, &mut rows);
        let row = |level: &FrameLevel| timesteps.iter().position(|t| *t == level.timestep);
        let index = levels.iter().filter_map(row).map(|row| row as u32).collect();
        TimeRows { signal, rows, width, index }
    }

    fn embedding(&self, timestep: f64, width: usize) -> impl Iterator<Item = f32> + use<> {
        let scale = self.scale;
        let angle = move |i: usize| timestep / 1000.0 * (1.0 + i as f64 * 0.37);
        (0..width).map(move |i| scale * (1.5 + angle(i).sin() * (0.4 + 0.1 * i as f64)) as f32)
    }

    fn key(&self, level: &FrameLevel) -> u32 {
        // Frames before the first have keys at the far end.
        if self.equal_frames { 0 } else { level.frame.wrapping_sub(self.first_frame) }
    }

    fn spoil(&self, part: Part, evaluation: usize, run: usize, elements: &mut [f32]) {
        let Some((at, how)) = self.spoilt else { return };
        if at != evaluation || part == Part::Computed {
            return;
        }
        match how {
            Spoilt::Zero => elements.fill(0.0),
            Spoilt::NotANumber => elements.iter_mut().step_by(run).for_each(|e| *e = f32::NAN),
            Spoilt::Infinite => elements.iter_mut().step_by(run).for_each(|e| *e = f32::INFINITY),
        }
    }
}

/// Elements of one frame of one tensor.
struct Content {
    part: Part,
    seed: u64,
    key: u32,
    evaluation: usize,
}

impl Content {
    fn at(&self, level: &FrameLevel, i: usize) -> f32 {
        let place = (u64::from(self.key) << 32) | i as u64;
        let base = noise(self.seed ^ self.salt(), place);
        let wobble = match self.part {
            // Latents move by their level alone, and rest where it rests.
            Part::Signal(Signal::Sample) => 0.0,
            _ => {
                0.03 * noise(self.seed ^ self.salt(), place ^ ((self.evaluation as u64 + 1) << 48))
            }
        };
        let angle = level.timestep / 1000.0 * (1.0 + 0.37 * (i % 7) as f64) + 3.0 * base;
        (1.5 + 0.4 * angle.sin() + 0.3 * base + wobble) as f32
    }

    fn salt(&self) -> u64 {
        match self.part {
            Part::Computed => 1 << 20,
            Part::Signal(signal) => (signal as u64) << 24,
        }
    }
}

/// -1 to 1, a pure function of its arguments (SplitMix64).
fn noise(seed: u64, place: u64) -> f64 {
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
