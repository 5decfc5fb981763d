//! Diffusion forcing: every latent frame has its own noise level (Chen et al. 2024, "Diffusion
//! Forcing: Next-token Prediction Meets Full-Sequence Diffusion"), as SkyReels-V2 samples with it
//! (Chen et al. 2025, commit abed76f).
//!
//! Frames are sampled in blocks. With `ar_step` 0 all blocks move together; otherwise each follows
//! its left neighbour by `ar_step` steps, a wave of denoising that runs along the video. Clean
//! frames at the start (an image, or the end of what came before) are context at level 0.
//!
//! A video of more than `base_num_frames` is sampled chunk by chunk if `overlap_history` says how
//! many frames each takes over from the one before; without an overlap the wave runs through a
//! window of `base_num_frames` that slides along. Both are rounds, and nothing to the host.
//!
//! # How a plugin is made
//!
//! This crate is written as a third party would write it, and may be read as the example:
//!
//! 1. `Cargo.toml`: `crate-type = ["cdylib"]`, and `wan-plugin-api`. (`wan-samplers` is here for
//!    its solvers; a plugin with its own arithmetic does without.)
//! 2. A struct for the options, which the host fills completely, and one for the sampler.
//! 3. `new` checks the settings, `schedule` lays out all rounds, `step` carries out one.
//! 4. [`export_plugin!`](wan_plugin_api::export_plugin) on the last line.
//!
//! The wave itself is pure arithmetic and lies in `matrix.rs`; `chunks.rs` divides a long video,
//! and the settings that cannot work are refused in `check.rs`. What a model sees in place of
//! finished frames is the matter of `context.rs`.

mod check;
mod chunks;
mod context;
mod matrix;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{
    Attention, Denoise, FrameLevel, OptionSpec, Result, Round, SampleRequest, Sampler, Schedule,
    Step, Tensor, TensorOps,
};
use wan_samplers::{SigmaTable, Solver, SolverOptions};

use chunks::{Chunk, Chunks};
use context::Context;
use matrix::Row;

/// What the model is told of a frame that is still pure noise, whatever the first timestep is.
const NOT_STARTED_TIMESTEP: f64 = 999.0;

/// What a user can set. The host has checked every value against [`Sampler::options`] and filled
/// in the defaults, so there is nothing optional here.
#[derive(Debug, Clone, Deserialize)]
pub struct Options {
    ar_step: usize,
    causal_block_size: usize,
    attention: AttentionOption,
    causal_attention: bool,
    addnoise_condition: u32,
    base_num_frames: u32,
    overlap_history: u32,
    #[serde(flatten)]
    solver: SolverOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AttentionOption {
    Bidirectional,
    BlockCausal,
}

/// The sampler: one object for one request.
pub struct DiffusionForcing {
    chunks: Chunks,
    rounds: Vec<PlannedRound>,
    attention: Attention,
    context: Context,
    solver: SolverOptions,
    table: Arc<SigmaTable>,
    /// One solver for each run of blocks that is on its way, by its first block: runs stand at
    /// different steps, and a multistep history belongs to one of them. A chunk leaves none behind.
    solvers: BTreeMap<usize, Box<dyn Solver>>,
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
        let mut specs = vec![
            OptionSpec::int("ar_step", 0, (0, 1000), "steps by which a block follows; 0: together")
                .flag("ar_step"),
            OptionSpec::int("causal_block_size", 1, (1, 1000), "latent frames of a block")
                .flag("causal_block_size"),
            // SkyReels' own programs leave attention open unless told otherwise; diffusers masks
            // it as soon as blocks are longer than one frame. Hence a setting of its own.
            OptionSpec::choice(
                "attention",
                &["bidirectional", "block_causal"],
                "what a block sees: all blocks, or itself and those before it",
            )
            .flag("attention"),
            OptionSpec::bool("causal_attention", false, "short for attention = block_causal")
                .flag("causal_attention"),
            OptionSpec::int("addnoise_condition", 0, (0, 60), "noise on a prefix, in 1/1000")
                .flag("addnoise_condition"),
            OptionSpec::int("base_num_frames", 0, (0, 100_000), "frames sampled at once; 0: all")
                .flag("base_num_frames"),
            OptionSpec::int(
                "overlap_history",
                0,
                (0, 100_000),
                "frames that a chunk of a long video takes over from the one before; 0: no chunks",
            )
            .flag("overlap_history"),
        ];
        specs.extend(SolverOptions::specs());
        specs
    }

    fn new(options: Options, request: &SampleRequest) -> Result<Self> {
        let chunks = Chunks::new(&options, request)?;
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
            solver: options.solver,
            table: options.solver.table(request.steps, request.shift)?,
            solvers: BTreeMap::new(),
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
                evaluations: 1,
            }
        };
        let rounds = self.rounds.iter().map(round).collect();
        Ok(Schedule { rounds, notices: self.chunks.notices.clone() })
    }

    /// One evaluation for the whole window, then every run of moving blocks by its own solver.
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
        let moved = self.step_runs(&row, chunk.layout.block_frames, [&again, &velocity], ops)?;
        let is_last = self.rounds.get(step.index + 1).is_none_or(|next| next.chunk != number);
        self.context.without_resampled(&moved, sample, &chunk, is_last, ops)
    }
}

impl DiffusionForcing {
    /// Where a frame, counted from its chunk's first, stands in a row.
    fn level(&self, chunk: &Chunk, row: &Row, frame: usize) -> FrameLevel {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        let number = (chunk.first + frame) as u32;
        match row.counters[frame / chunk.layout.block_frames] {
            0 => FrameLevel::frozen(number, NOT_STARTED_TIMESTEP, 1.0),
            // Moves inside the sampler alone: the frame that the host holds is finished.
            step if step <= self.table.steps() && frame < chunk.overlap() => {
                FrameLevel::frozen(number, timesteps[step - 1], sigmas[step - 1])
            }
            step if step <= self.table.steps() => {
                FrameLevel::moving(number, timesteps[step - 1], sigmas[step - 1], sigmas[step])
            }
            _ if frame < chunk.layout.prefix_frames => {
                // The sample is clean; the noise is only in what the model sees.
                FrameLevel::frozen(number, self.context.prefix_timestep, 0.0)
            }
            _ => FrameLevel::frozen(number, 0.0, 0.0),
        }
    }

    /// `sample` with its moving frames one step on.
    fn step_runs(
        &mut self,
        row: &Row,
        block_frames: usize,
        [sample, velocity]: [&Tensor; 2],
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let mut parts = Vec::new();
        for run in row.runs() {
            let start = (run.start - row.window.start) * block_frames;
            let frames = start..start + run.len() * block_frames;
            let before = context::part(sample, &frames, ops)?;
            parts.push(if row.updates[run.start] {
                let velocity = context::part(velocity, &frames, ops)?;
                self.step_run(run, row, [&before, &velocity], ops)?
            } else {
                before
            });
        }
        context::joined(&parts, ops)
    }

    fn step_run(
        &mut self,
        run: Range<usize>,
        row: &Row,
        [sample, velocity]: [&Tensor; 2],
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let index = row.counters[run.start] - 1;
        let fresh = || self.solver.solver(&self.table);
        let solver = self.solvers.entry(run.start).or_insert_with(fresh);
        let moved = solver.step(index, sample, velocity, ops)?;
        if index + 1 == self.table.steps() {
            // A finished run needs no history; handles are memory.
            self.solvers.remove(&run.start);
        }
        Ok(moved)
    }
}

wan_plugin_api::export_plugin! { samplers: [DiffusionForcing], caches: [] }
