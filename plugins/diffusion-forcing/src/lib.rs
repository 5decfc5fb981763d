//! Diffusion forcing: every latent frame has its own noise level (Chen et al. 2024, "Diffusion
//! Forcing: Next-token Prediction Meets Full-Sequence Diffusion"), as SkyReels-V2 samples with it
//! (Chen et al. 2025, commit abed76f).
//!
//! Frames are sampled in blocks. With `ar_step` 0 all blocks move together; otherwise each block
//! follows its left neighbour by `ar_step` steps. Clean frames at the start (an image, or the end
//! of an earlier video) are context at timestep 0.
//!
//! With `overlap_history`, a video of more than `base_num_frames` is sampled in chunks, each
//! starting with the last frames of the one before. Without it, a window of `base_num_frames`
//! slides along the video. The host sees rounds in both cases.
//!
//! # How to write a plugin
//!
//! This crate is written as by a third party and can be read as an example:
//!
//! 1. `Cargo.toml`: `crate-type = ["cdylib"]`, and `wan-plugin-api`. (`wan-samplers` provides
//!    solvers; a plugin with its own arithmetic does not need it.)
//! 2. A struct for the options, which the host fills completely, and one for the sampler.
//! 3. `new` checks the options, `schedule` returns all rounds, `step` carries out one.
//! 4. [`export_plugin!`](wan_plugin_api::export_plugin) on the last line.
//!
//! `matrix.rs` computes which block is at which step in which round. `chunks.rs` divides a long
//! video, `check.rs` refuses options that cannot work, `descent.rs` has the noise levels of a
//! frame, `context.rs` the frames that the model sees in place of finished ones, `state.rs` the
//! saved state.

mod check;
mod chunk;
mod chunks;
mod context;
mod descent;
mod matrix;
mod options;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{
    Attention, Denoise, FrameLevel, Message, OptionSpec, Result, Round, SampleRequest, Sampler,
    Schedule, Step, Tensor, TensorOps,
};
use wan_samplers::Solver;

use chunk::Chunk;
use chunks::Chunks;
use context::Context;
use descent::Descent;
use matrix::Row;
use options::{AttentionOption, Options};

/// The sampler.
pub struct DiffusionForcing {
    chunks: Chunks,
    rounds: Vec<PlannedRound>,
    attention: Attention,
    context: Context,
    descent: Descent,
    /// Runs of blocks that are being sampled, by their first block; empty at the end of a chunk.
    moving: BTreeMap<usize, Moving>,
}

/// A run of blocks that is being sampled. It has its own solver, because runs are at different
/// steps and a multistep history belongs to one run.
struct Moving {
    /// Number in the video of its first frame.
    first_frame: u32,
    solver: Box<dyn Solver>,
}

/// A row of a chunk's matrix.
#[derive(Debug, Clone)]
struct PlannedRound {
    /// Number of the chunk.
    chunk: usize,
    row: Row,
}

impl Sampler for DiffusionForcing {
    type Options = Options;
    const ID: &'static str = "diffusion-forcing";
    const DOC: &'static str = "every latent frame at its own noise level (SkyReels-V2)";

    fn options() -> Vec<OptionSpec> {
        Options::specs()
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: Options, request: &SampleRequest) -> Result<Self> {
        let descent = Descent::new(options.solver.clone(), request)?;
        // From here on, `steps` are the steps of each frame.
        let request = &SampleRequest { steps: descent.steps() as u32, ..request.clone() };
        let chunks = Chunks::new(&options, request)?;
        descent.fits(&chunks.list)?;
        let causal = options.causal_attention || options.attention == AttentionOption::BlockCausal;
        let rows = |(chunk, of): (usize, &Chunk)| {
            let rows = of.layout.rows(request.steps as usize).into_iter();
            rows.map(move |row| PlannedRound { chunk, row })
        };
        Ok(Self {
            rounds: chunks.list.iter().enumerate().flat_map(rows).collect(),
            chunks,
            attention: check::attention(causal, options.causal_block_size)?,
            context: Context::new(options.addnoise_condition),
            descent,
            moving: BTreeMap::new(),
        })
    }

    fn schedule(&self) -> Result<Schedule> {
        let round = |PlannedRound { chunk, row }: &PlannedRound| {
            let chunk = &self.chunks.list[*chunk];
            let block = chunk.layout.block_frames;
            let frames = row.window.start * block..row.window.end * block;
            Round {
                levels: frames.map(|frame| self.level(chunk, row, frame)).collect(),
                attention: self.attention,
                evaluations: self.descent.evaluations(row),
            }
        };
        let rounds: Vec<Round> = self.rounds.iter().map(round).collect();
        let notices = self.chunks.notices.iter().cloned().chain(self.descent.notice()).collect();
        Ok(Schedule { notices, ..Schedule::from(rounds) })
    }

    /// Evaluates the whole window, then moves every run of blocks by its own solver. Repeats both
    /// for a solver with two evaluations.
    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let PlannedRound { chunk: number, row } = self.rounds[step.index].clone();
        let chunk = self.chunks.list[number];
        let again = self.context.with_resampled(sample, number, &chunk, ops)?;
        let seen = self.context.with_prefix_noise(&again, step, &chunk, ops)?;
        let velocity = model.velocity(&seen, &step.round.levels)?;
        let mut moved = self.each_run(&row, &chunk, [&again, &velocity], ops, Half::First)?;
        if step.round.evaluations > 1 {
            let seen = self.context.with_prefix_noise(&moved, step, &chunk, ops)?;
            let arrived = self.arrived(&row, &chunk, &step.round.levels);
            let velocity = model.velocity(&seen, &arrived)?;
            moved = self.each_run(&row, &chunk, [&moved, &velocity], ops, Half::Second)?;
        }
        // Drops the histories of finished runs: handles are memory.
        self.moving.retain(|block, _| row.counters[*block] < self.descent.steps());
        let is_last = self.rounds.get(step.index + 1).is_none_or(|next| next.chunk != number);
        self.context.without_resampled(&moved, sample, &chunk, is_last, ops)
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        wan_plugin_api::state::answer(Self::ID, self, id, message)
    }
}

/// The two evaluations of a step.
#[derive(Clone, Copy)]
enum Half {
    First,
    Second,
}

impl DiffusionForcing {
    /// Level of a frame in a row; `frame` is counted from the first of the chunk.
    fn level(&self, chunk: &Chunk, row: &Row, frame: usize) -> FrameLevel {
        let number = (chunk.first + frame) as u32;
        let counter = row.counters[frame / chunk.layout.block_frames];
        match self.descent.index(counter) {
            // Resampled inside the sampler; the host's frame is finished.
            Some(_) if frame < chunk.overlap() => {
                let level = self.descent.level(number, counter);
                FrameLevel::frozen(number, level.timestep, level.sigma).with_velocity()
            }
            None if counter > 0 && frame < chunk.layout.prefix_frames => {
                // The host's frame is clean; only the model sees noise.
                FrameLevel::frozen(number, self.context.prefix_timestep, 0.0)
            }
            _ => self.descent.level(number, counter),
        }
    }

    /// The levels of a row after its steps.
    fn arrived(&self, row: &Row, chunk: &Chunk, levels: &[FrameLevel]) -> Vec<FrameLevel> {
        let arrived = |level: &FrameLevel| {
            let frame = level.frame as usize - chunk.first;
            let counter = row.counters[frame / chunk.layout.block_frames];
            self.descent.arrived(level, counter)
        };
        levels.iter().map(arrived).collect()
    }

    /// `sample` after one half of a step of its moving frames.
    fn each_run(
        &mut self,
        row: &Row,
        chunk: &Chunk,
        [sample, velocity]: [&Tensor; 2],
        ops: &dyn TensorOps,
        half: Half,
    ) -> Result<Tensor> {
        let block_frames = chunk.layout.block_frames;
        let mut parts = Vec::new();
        for run in row.runs() {
            let start = (run.start - row.window.start) * block_frames;
            let frames = start..start + run.len() * block_frames;
            let before = context::part(sample, &frames, ops)?;
            let index = self.descent.index(row.counters[run.start]);
            parts.push(match index.filter(|_| row.updates[run.start]) {
                None => before,
                Some(index) => {
                    let velocity = context::part(velocity, &frames, ops)?;
                    let solver = self.solver(&run, chunk);
                    match half {
                        Half::First => solver.step(index, &before, &velocity, ops)?,
                        Half::Second => solver.correct(&before, &velocity, ops)?,
                    }
                }
            });
        }
        context::joined(&parts, ops)
    }

    fn solver(&mut self, run: &Range<usize>, chunk: &Chunk) -> &mut dyn Solver {
        let first_frame = (chunk.first + run.start * chunk.layout.block_frames) as u32;
        let fresh = || Moving { first_frame, solver: self.descent.solver(first_frame) };
        self.moving.entry(run.start).or_insert_with(fresh).solver.as_mut()
    }
}

wan_plugin_api::export_plugin! { samplers: [DiffusionForcing], caches: [] }
