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
//! finished frames is the matter of `context.rs`, and what is saved of a run of `state.rs`.

mod check;
mod chunks;
mod context;
mod descent;
mod matrix;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{
    Attention, Denoise, FrameLevel, Message, OptionSpec, Result, Round, SampleRequest, Sampler,
    Schedule, Step, Tensor, TensorOps,
};
use wan_samplers::{Solver, SolverOptions};

use chunks::{Chunk, Chunks};
use context::Context;
use descent::Descent;
use matrix::Row;

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
    descent: Descent,
    /// The runs of blocks that are on their way, by their first block. A chunk leaves none behind.
    moving: BTreeMap<usize, Moving>,
}

/// A run has a solver of its own: runs stand at different steps, and a multistep history belongs to
/// one of them.
struct Moving {
    /// Number of its first frame in the video.
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

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: Options, request: &SampleRequest) -> Result<Self> {
        let descent = Descent::new(options.solver.clone(), request)?;
        // From here on, the steps are those that each frame takes.
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
        let rounds = self.rounds.iter().map(round).collect();
        let notices = self.chunks.notices.iter().cloned().chain(self.descent.notice()).collect();
        Ok(Schedule { rounds, notices })
    }

    /// An evaluation for the whole window, then every run of moving blocks by its own solver; and
    /// so once more where a solver asks twice.
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
        // A finished run needs no history; handles are memory.
        self.moving.retain(|block, _| row.counters[*block] < self.descent.steps());
        let is_last = self.rounds.get(step.index + 1).is_none_or(|next| next.chunk != number);
        self.context.without_resampled(&moved, sample, &chunk, is_last, ops)
    }

    fn extension(&mut self, id: &str, message: Message) -> Result<Message> {
        wan_plugin_api::state::answer(Self::ID, self, id, message)
    }
}

/// Which evaluation of a step's two.
#[derive(Clone, Copy)]
enum Half {
    First,
    Second,
}

impl DiffusionForcing {
    /// Where a frame, counted from its chunk's first, stands in a row.
    fn level(&self, chunk: &Chunk, row: &Row, frame: usize) -> FrameLevel {
        let number = (chunk.first + frame) as u32;
        let counter = row.counters[frame / chunk.layout.block_frames];
        match self.descent.index(counter) {
            // Moves inside the sampler alone: the frame that the host holds is finished.
            Some(_) if frame < chunk.overlap() => {
                let level = self.descent.level(number, counter);
                FrameLevel::frozen(number, level.timestep, level.sigma)
            }
            None if counter > 0 && frame < chunk.layout.prefix_frames => {
                // The sample is clean; the noise is only in what the model sees.
                FrameLevel::frozen(number, self.context.prefix_timestep, 0.0)
            }
            _ => self.descent.level(number, counter),
        }
    }

    /// The levels of a row once its moving frames have taken their steps.
    fn arrived(&self, row: &Row, chunk: &Chunk, levels: &[FrameLevel]) -> Vec<FrameLevel> {
        let arrived = |level: &FrameLevel| {
            let frame = level.frame as usize - chunk.first;
            let counter = row.counters[frame / chunk.layout.block_frames];
            self.descent.arrived(level, counter)
        };
        levels.iter().map(arrived).collect()
    }

    /// `sample` with its moving frames one step on, or half of one.
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
