//! A fake model: its signals, and what its blocks compute, as pure functions of a seed.
//!
//! Signals are smooth in the timestep, as those of a real model are. What is computed differs at
//! every evaluation, so that a wrong reuse shows.

use wan_plugin_api::{DType, FrameLevel, Place, Signal};

/// Width of the hidden states.
pub(crate) const DIM: usize = 4;

/// What a tensor is to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A signal that `decide` reads.
    Signal(Signal),
    /// What an evaluation computes, as `store` receives it.
    Computed,
}

/// The distinct rows of a time signal, and the row of each frame.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeRows {
    /// `TimeEmbedding` or `TimeProjection`.
    pub signal: Signal,
    /// Elements, row after row.
    pub rows: Vec<f32>,
    /// Elements of one row.
    pub width: usize,
    /// The row of each frame.
    pub index: Vec<u32>,
}

/// A model and its latents. Every field changes the tensors that a cache is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeModel {
    /// Seed of all contents: stands for prompt and noise.
    pub seed: u64,
    /// Tokens of one latent frame. Its latents have [`FakeModel::LATENT_CHANNELS`] elements a
    /// token.
    pub tokens: usize,
    /// Frame number whose contents are those of frame 0.
    pub first_frame: u32,
    /// Offset added to the number of an evaluation before contents are made.
    pub first_evaluation: usize,
    /// Seed of frames that are never updated again; none: `seed`.
    pub resting_seed: Option<u64>,
    /// Whether all frames have the same contents.
    pub equal_frames: bool,
    /// Factor on all signals and on all that is computed.
    pub scale: f32,
    /// Whether time signals have one row per token instead of one per distinct timestep.
    pub rows_per_token: bool,
    /// Number of an evaluation with defective signals, and the defect.
    pub spoilt: Option<(usize, Spoilt)>,
    /// Evaluations whose frames have one token more.
    pub grown: std::ops::Range<usize>,
    /// Number format of hidden states and residuals.
    pub dtype: DType,
    /// [`CacheContext::keep`](wan_plugin_api::CacheContext::keep).
    pub keep: Place,
}

/// A defect of the signals of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    /// One element of each frame (of each row of a time signal) is NaN.
    NotANumber,
    /// One element of each frame (of each row of a time signal) is infinite.
    Infinite,
    /// All elements are zero.
    Zero,
}

impl FakeModel {
    /// Elements of the latents per token.
    pub const LATENT_CHANNELS: usize = 4;

    /// Two tokens a frame, f32, kept on the device, no defect.
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

    /// Tokens of one frame at an evaluation.
    pub(crate) fn tokens_at(&self, evaluation: usize) -> usize {
        self.tokens + usize::from(self.grown.contains(&evaluation))
    }

    /// Elements of all frames of one tensor, except for time signals
    /// ([`time_rows`](Self::time_rows)).
    pub(crate) fn elements(
        &self,
        role: Role,
        evaluation: usize,
        levels: &[Vec<FrameLevel>],
    ) -> Vec<f32> {
        let frame_elements = DIM * self.tokens_at(evaluation);
        let mut elements = Vec::with_capacity(frame_elements * levels[evaluation].len());
        for (frame, level) in levels[evaluation].iter().enumerate() {
            let rests = levels[evaluation..].iter().all(|l| l.get(frame).is_none_or(|l| !l.update));
            let seed = self.resting_seed.filter(|_| rests).unwrap_or(self.seed);
            let evaluation = self.first_evaluation + evaluation;
            let content = Content { role, seed, key: self.key(level), evaluation };
            elements.extend((0..frame_elements).map(|i| self.scale * content.at(level, i)));
        }
        self.spoil(role, evaluation, frame_elements, &mut elements);
        elements
    }

    /// The rows of a time signal: width `DIM` of the embedding, `6 * DIM` of the projection.
    pub(crate) fn time_rows(
        &self,
        signal: Signal,
        evaluation: usize,
        levels: &[FrameLevel],
    ) -> TimeRows {
        let width = if signal == Signal::TimeProjection { 6 * DIM } else { DIM };
        let timesteps = distinct_timesteps(levels);
        let mut rows: Vec<f32> = timesteps.iter().flat_map(|t| self.embedding(*t, width)).collect();
        self.spoil(Role::Signal(signal), evaluation, width, &mut rows);
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
        // Frames before `first_frame` wrap around to the largest keys.
        if self.equal_frames { 0 } else { level.frame.wrapping_sub(self.first_frame) }
    }

    fn spoil(&self, role: Role, evaluation: usize, run: usize, elements: &mut [f32]) {
        let Some((at, how)) = self.spoilt else { return };
        if at != evaluation || role == Role::Computed {
            return;
        }
        match how {
            Spoilt::Zero => elements.fill(0.0),
            Spoilt::NotANumber => elements.iter_mut().step_by(run).for_each(|e| *e = f32::NAN),
            Spoilt::Infinite => elements.iter_mut().step_by(run).for_each(|e| *e = f32::INFINITY),
        }
    }
}

/// Contents of one frame of one tensor.
struct Content {
    role: Role,
    seed: u64,
    key: u32,
    evaluation: usize,
}

impl Content {
    fn at(&self, level: &FrameLevel, i: usize) -> f32 {
        let place = (u64::from(self.key) << 32) | i as u64;
        let base = noise(self.seed ^ self.salt(), place);
        let wobble = match self.role {
            // Latents depend on the noise level alone: they rest where it rests.
            Role::Signal(Signal::Sample) => 0.0,
            _ => {
                0.03 * noise(self.seed ^ self.salt(), place ^ ((self.evaluation as u64 + 1) << 48))
            }
        };
        let angle = level.timestep / 1000.0 * (1.0 + 0.37 * (i % 7) as f64) + 3.0 * base;
        (1.5 + 0.4 * angle.sin() + 0.3 * base + wobble) as f32
    }

    fn salt(&self) -> u64 {
        match self.role {
            Role::Computed => 1 << 20,
            Role::Signal(signal) => (signal as u64) << 24,
        }
    }
}

/// The distinct timesteps of one evaluation, in order of their first frame.
pub(crate) fn distinct_timesteps(levels: &[FrameLevel]) -> Vec<f64> {
    let mut found = Vec::new();
    for level in levels {
        if !found.contains(&level.timestep) {
            found.push(level.timestep);
        }
    }
    found
}

/// A number from -1 to 1, a pure function of the arguments (SplitMix64).
fn noise(seed: u64, place: u64) -> f64 {
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
