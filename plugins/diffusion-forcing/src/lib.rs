//! Diffusion forcing: every latent frame has its own noise level (Chen et al. 2024, "Diffusion
//! Forcing: Next-token Prediction Meets Full-Sequence Diffusion"), as SkyReels-V2 samples with it
//! (Chen et al. 2025, commit abed76f).
//!
//! Frames are sampled in blocks. With `ar_step` 0 all blocks move together; otherwise each follows
//! its left neighbour by `ar_step` steps, a wave of denoising that runs along the video. Clean
//! frames at the start (an image, or the end of what came before) are context at level 0.
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
//! The wave itself is pure arithmetic and lies in `matrix.rs`; the settings that it cannot take are
//! refused in `check.rs`.

mod check;
mod matrix;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{
    Attention, Denoise, FrameLevel, OptionSpec, Result, Round, SampleRequest, Sampler, Schedule,
    Step, Tensor, TensorOps, term,
};
use wan_samplers::{SigmaTable, Solver, SolverOptions};

use matrix::{Layout, Row};

/// What the model is told of a frame that is still pure noise, whatever the first timestep is.
const NOT_STARTED_TIMESTEP: f64 = 999.0;

/// Stream of the noise that is added to a prefix; the index is the number of the round.
const PREFIX_NOISE: u64 = 0;

/// What a user can set. The host has checked every value against [`Sampler::options`] and filled
/// in the defaults, so there is nothing optional here.
#[derive(Debug, Clone, Deserialize)]
pub struct Options {
    ar_step: usize,
    causal_block_size: usize,
    attention: AttentionOption,
    causal_attention: bool,
    addnoise_condition: u32,
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
    layout: Layout,
    rows: Vec<Row>,
    attention: Attention,
    /// What the model is told of a clean prefix: 0, or a little, with noise of that level added.
    prefix_timestep: f64,
    solver: SolverOptions,
    table: Arc<SigmaTable>,
    /// One solver for each block that is on its way: blocks stand at different steps, and a
    /// multistep history belongs to one of them.
    solvers: BTreeMap<usize, Box<dyn Solver>>,
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
        ];
        specs.extend(SolverOptions::specs());
        specs
    }

    fn new(options: Options, request: &SampleRequest) -> Result<Self> {
        let layout = Layout {
            frames: request.frames as usize,
            window_frames: request.window_frames.min(request.frames) as usize,
            prefix_frames: request.prefix_frames as usize,
            ar_step: options.ar_step,
            block_frames: options.causal_block_size,
        };
        check::check(&layout, request.steps as usize)?;
        let causal = options.causal_attention || options.attention == AttentionOption::BlockCausal;
        Ok(Self {
            layout,
            rows: layout.rows(request.steps as usize),
            attention: check::attention(causal, &layout)?,
            prefix_timestep: f64::from(options.addnoise_condition),
            solver: options.solver,
            table: options.solver.table(request.steps, request.shift)?,
            solvers: BTreeMap::new(),
        })
    }

    fn schedule(&self) -> Result<Schedule> {
        let round = |row: &Row| Round {
            levels: self.frames(&row.window).map(|frame| self.level(row, frame)).collect(),
            attention: self.attention,
            evaluations: 1,
        };
        Ok(self.rows.iter().map(round).collect::<Vec<_>>().into())
    }

    /// One evaluation for the whole window, then every moving block by its own solver.
    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let seen = self.with_prefix_noise(sample, step, ops)?;
        let velocity = model.velocity(&seen, &step.round.levels)?;

        let window = self.rows[step.index].window.clone();
        let frames = self.layout.block_frames;
        let mut moved = Vec::with_capacity(window.len());
        for (place, block) in window.enumerate() {
            let before = ops.narrow_frames(sample, place * frames, frames)?;
            let row = &self.rows[step.index];
            moved.push(if row.updates[block] {
                let index = row.counters[block] - 1;
                let velocity = ops.narrow_frames(&velocity, place * frames, frames)?;
                self.step_block(block, index, &before, &velocity, ops)?
            } else {
                before
            });
        }
        ops.cat_frames(&moved.iter().collect::<Vec<_>>())
    }
}

impl DiffusionForcing {
    /// Frames of a range of blocks.
    fn frames(&self, blocks: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        blocks.start * self.layout.block_frames..blocks.end * self.layout.block_frames
    }

    /// Where a frame stands in a row.
    fn level(&self, row: &Row, frame: usize) -> FrameLevel {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        let block = frame / self.layout.block_frames;
        let number = frame as u32;
        match row.counters[block] {
            0 => FrameLevel::frozen(number, NOT_STARTED_TIMESTEP, 1.0),
            step if step <= self.table.steps() => {
                FrameLevel::moving(number, timesteps[step - 1], sigmas[step - 1], sigmas[step])
            }
            _ if frame < self.layout.prefix_frames => {
                // The sample is clean; the noise is only in what the model sees.
                FrameLevel::frozen(number, self.prefix_timestep, 0.0)
            }
            _ => FrameLevel::frozen(number, 0.0, 0.0),
        }
    }

    /// The window as the model sees it. The latents themselves stay clean.
    ///
    /// Fresh noise in every round, as the references have it; theirs comes from a global generator,
    /// this from the request's seed.
    fn with_prefix_noise(
        &self,
        sample: &Tensor,
        step: &Step<'_>,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (first, frames) = (step.round.first_frame(), step.round.len());
        let noisy = self.layout.prefix_frames.saturating_sub(first).min(frames);
        if noisy == 0 || self.prefix_timestep == 0.0 {
            return Ok(sample.clone());
        }
        let prefix = ops.narrow_frames(sample, 0, noisy)?;
        let noise = ops.noise_like(&prefix, PREFIX_NOISE, step.index as u64)?;
        let sigma = 0.001 * self.prefix_timestep;
        let prefix = ops.combine(&[term(1.0 - sigma, &prefix), term(sigma, &noise)])?;
        match frames - noisy {
            0 => Ok(prefix),
            rest => ops.cat_frames(&[&prefix, &ops.narrow_frames(sample, noisy, rest)?]),
        }
    }

    fn step_block(
        &mut self,
        block: usize,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let fresh = || self.solver.solver(&self.table);
        let moved =
            self.solvers.entry(block).or_insert_with(fresh).step(index, sample, velocity, ops)?;
        if index + 1 == self.table.steps() {
            // A finished block needs no history; handles are memory.
            self.solvers.remove(&block);
        }
        Ok(moved)
    }
}

wan_plugin_api::export_plugin! { samplers: [DiffusionForcing], caches: [] }
