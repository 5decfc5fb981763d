//! Kind `df_pipeline`: the reference's chunks beside the plugin's rounds.

use std::ops::Range;

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use wan_host::StrategyChoice;
use wan_host::parts::Noise;
use wan_plugin_api::{OptionValues, Round, Schedule};

use super::{Setup, compare_levels};
use crate::golden::{Case, Compare};

/// Pixel frames that a latent frame stands for, the first one excepted.
const TEMPORAL_SCALE: usize = 4;

/// Frames of a chunk that diffusers samples at once where a call does not say.
const BASE_NUM_FRAMES: u64 = 97;

/// Frame rate that diffusers tells the model where a call does not say.
pub(super) const FPS: f64 = 24.0;

/// What divides a video into chunks.
const CHUNK_OPTIONS: [&str; 2] = ["base_num_frames", "overlap_history"];

/// Axis of the latent frames in `[rounds, 1, C, F, H, W]`.
const FRAMES: usize = 3;

/// The plugin's noise on a prefix; index: the round.
const PREFIX_NOISE: u64 = Noise::PLUGIN_STREAMS;

/// The plugin's noise for frames that it samples a second time; index: the chunk.
const RESAMPLED_NOISE: u64 = Noise::PLUGIN_STREAMS + 1;

/// Runs a pipeline of diffusers' `SkyReelsV2DiffusionForcingPipeline`.
pub(in crate::golden) fn run_df(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let mut setup = Setup::load(case)?;
    let chunks = Chunks::of(case)?;
    let run = setup.sample(case, None)?;
    let mut first_round = 0;
    for (number, rounds) in chunks.rounds(&run.schedule)?.into_iter().enumerate() {
        let after = first_round + rounds.len();
        let mut ours = chunks.frames(number, rounds, &run.per_round[first_round..after])?;
        let resampled = chunks.resampled(number);
        if !resampled.is_empty() {
            let start =
                run.per_round[first_round - 1].narrow(2, rounds[0].first_frame(), chunks.prefix)?;
            let alone = chunks.alone(number, &mut setup, case, &start)?;
            ours = with_frames(&ours, &resampled, &alone)?;
        }
        compare.tensor(&format!("out.chunk{number}.latents_per_step"), &ours)?;
        compare_chunk(number, rounds, resampled, compare)?;
        first_round = after;
    }
    compare.tensor("out.final_latents", &run.sampled.latents)?;
    compare_levels(&run.schedule, compare)
}

/// The step matrix of the only chunk, from the rounds that the plugin planned.
pub(in crate::golden) fn compare_matrix(
    schedule: &Schedule,
    compare: &mut Compare,
) -> anyhow::Result<()> {
    compare_chunk(0, &schedule.rounds, 0..0, compare)
}

/// The chunks that a case was sampled in.
pub(super) struct Chunks {
    /// The initial noise of each: `[1, C, F, H, W]`.
    noises: Vec<Tensor>,
    /// Frames that each has in common with the one before it.
    overlap: usize,
    /// Those of them that are its clean prefix.
    prefix: usize,
}

impl Chunks {
    pub(super) fn of(case: &Case) -> anyhow::Result<Self> {
        let noise = |number: usize| case.io.get(&format!("in.chunk{number}.noise")).cloned();
        let noises: Vec<Tensor> = (0..).map_while(noise).collect();
        ensure!(!noises.is_empty(), "io.safetensors has no in.chunk0.noise");
        let history = case.description["call"]["overlap_history"].as_u64().unwrap_or(0) as usize;
        let overlap = history.div_ceil(TEMPORAL_SCALE);
        let prefix = overlap - overlap % block_frames(case);
        Ok(Self { noises, overlap, prefix })
    }

    /// Noise of the whole video. What a later chunk draws for its overlap is not among it.
    pub(super) fn initial_latents(&self) -> anyhow::Result<Tensor> {
        let mut parts = vec![self.noises[0].clone()];
        for noise in &self.noises[1..] {
            parts.push(noise.narrow(2, self.overlap, noise.dims()[2] - self.overlap)?);
        }
        Ok(Tensor::cat(&parts, 2)?) // [1, C, F, H, W]
    }

    /// What the plugin draws, as it was recorded: once for each chunk with resampled frames, and
    /// once for each round of a chunk with a prefix.
    pub(super) fn draws(&self, case: &Case) -> anyhow::Result<Vec<Draw>> {
        let mut draws = Vec::new();
        for (number, noise) in self.noises.iter().enumerate() {
            let frames = self.resampled(number);
            if !frames.is_empty() {
                let tensor = noise.narrow(2, frames.start, frames.len())?;
                draws.push(Draw { stream: RESAMPLED_NOISE, index: number as u64, tensor });
            }
        }
        draws.extend(prefix_draws(case, 0, recorded_rounds(case, 0)? as u64));
        Ok(draws)
    }

    /// The rounds of each chunk.
    fn rounds<'s>(&self, schedule: &'s Schedule) -> anyhow::Result<Vec<&'s [Round]>> {
        let rounds = schedule.rounds.as_slice();
        let chunks: Vec<&[Round]> = match self.noises.len() {
            1 => vec![rounds],
            _ => rounds.chunk_by(|a, b| a.first_frame() == b.first_frame()).collect(),
        };
        let (ours, recorded) = (chunks.len(), self.noises.len());
        ensure!(ours == recorded, "{ours} chunks, recorded {recorded}");
        Ok(chunks)
    }

    /// Places of the frames that a chunk samples a second time and drops.
    fn resampled(&self, number: usize) -> Range<usize> {
        if number == 0 { 0..0 } else { self.prefix..self.overlap }
    }

    /// A chunk's frames after each of its rounds: `[rounds, 1, C, F, H, W]`.
    fn frames(&self, number: usize, rounds: &[Round], whole: &[Tensor]) -> anyhow::Result<Tensor> {
        let whole = Tensor::stack(whole, 0)?;
        match self.noises.len() {
            1 => Ok(whole),
            _ => {
                let (first, frames) = (rounds[0].first_frame(), self.noises[number].dims()[2]);
                Ok(whole.narrow(FRAMES, first, frames)?)
            }
        }
    }

    /// A chunk as a video of its own that begins with the clean latents `prefix`. Here the host
    /// sees its resampled frames, which otherwise never leave the plugin: there it keeps the
    /// finished ones in place.
    fn alone(
        &self,
        number: usize,
        setup: &mut Setup,
        case: &Case,
        prefix: &Tensor,
    ) -> anyhow::Result<Tensor> {
        let noise = &self.noises[number];
        let frames = noise.dims()[2];
        setup.latents = match self.prefix {
            0 => noise.clone(),
            clean => Tensor::cat(&[prefix, &noise.narrow(2, clean, frames - clean)?], 2)?,
        };
        setup.conditions.prefix = (self.prefix > 0).then(|| prefix.clone());
        setup.sampler.options.retain(|name, _| !CHUNK_OPTIONS.contains(&name.as_str()));
        let before = (1..number).map(|n| recorded_rounds(case, n));
        setup.draws = prefix_draws(case, before.sum::<anyhow::Result<usize>>()?, 0).collect();
        Ok(Tensor::stack(&setup.sample(case, None)?.per_round, 0)?)
    }
}

/// Noise that the plugin is to be given in place of drawn one.
pub(super) struct Draw {
    pub(super) stream: u64,
    pub(super) index: u64,
    pub(super) tensor: Tensor,
}

/// Recorded noise for prefixes from draw `first` on, for the rounds from `round` on.
fn prefix_draws(case: &Case, first: usize, round: u64) -> impl Iterator<Item = Draw> {
    let recorded = move |draw: usize| case.io.get(&format!("in.addnoise_{draw}")).cloned();
    let draw = move |(index, tensor)| Draw { stream: PREFIX_NOISE, index, tensor };
    (round..).zip((first..).map_while(recorded)).map(draw)
}

fn recorded_rounds(case: &Case, chunk: usize) -> anyhow::Result<usize> {
    Ok(case.tensor(&format!("out.chunk{chunk}.step_matrix"))?.dims()[0])
}

/// `whole` with some of its frames taken from `other`.
fn with_frames(whole: &Tensor, frames: &Range<usize>, other: &Tensor) -> anyhow::Result<Tensor> {
    let rest = whole.dims()[FRAMES] - frames.end;
    let parts = [
        whole.narrow(FRAMES, 0, frames.start)?,
        other.narrow(FRAMES, frames.start, frames.len())?,
        whole.narrow(FRAMES, frames.end, rest)?,
    ];
    Ok(Tensor::cat(&parts, FRAMES)?)
}

/// Latent frames of a block: the call's, or those that the model was set to.
fn block_frames(case: &Case) -> usize {
    let called = case.description["call"]["causal_block_size"].as_u64();
    let set = case.config["transformer"]["num_frame_per_block"].as_u64();
    called.or(set).unwrap_or(1).max(1) as usize
}

/// Options of the diffusion-forcing plugin for a call of diffusers' pipeline, which masks
/// attention as soon as blocks are longer than one frame.
pub(super) fn options(case: &Case, solver: StrategyChoice) -> anyhow::Result<OptionValues> {
    let (call, block) = (&case.description["call"], block_frames(case));
    let mut options = solver.options;
    if solver.id == "unipc" {
        options.insert("first_correction".into(), json!("overwritten"));
    }
    options.insert("solver".into(), json!(solver.id));
    options.insert("causal_block_size".into(), json!(block));
    let attention = if block > 1 { "block_causal" } else { "bidirectional" };
    options.insert("attention".into(), json!(attention));
    options.insert("ar_step".into(), json!(call["ar_step"].as_u64().unwrap_or(0)));
    let addnoise = call["addnoise_condition"].as_f64().unwrap_or(0.0);
    ensure!(addnoise.fract() == 0.0, "addnoise_condition {addnoise} is not a whole number");
    options.insert("addnoise_condition".into(), json!(addnoise as u64));
    if let Value::Number(history) = &call["overlap_history"] {
        let base = call["base_num_frames"].as_u64().unwrap_or(BASE_NUM_FRAMES);
        options.insert("overlap_history".into(), json!(history));
        options.insert("base_num_frames".into(), json!(base));
    }
    Ok(options)
}

/// Matrix, counters, mask and intervals of one chunk, counted from its first frame.
///
/// `resampled` frames move inside the plugin alone; their block is that of the frame behind them.
fn compare_chunk(
    number: usize,
    rounds: &[Round],
    resampled: Range<usize>,
    compare: &mut Compare,
) -> anyhow::Result<()> {
    let first = rounds.first().context("a chunk without rounds")?;
    let (start, frames) = (first.first_frame() as i64, first.len());
    let mover = |frame: usize| if resampled.contains(&frame) { resampled.end } else { frame };
    let updates_of = |frame: usize| rounds.iter().filter(|r| r.levels[frame].update).count();
    let steps = (0..frames).map(updates_of).max().unwrap_or(0);
    let mut done = vec![0usize; frames];
    let (mut matrix, mut index, mut mask, mut interval) = (vec![], vec![], vec![], vec![]);
    for round in rounds {
        for (frame, level) in round.levels.iter().enumerate() {
            let moves = &round.levels[mover(frame)];
            done[frame] += usize::from(moves.update);
            let is_clean = moves.sigma == 0.0;
            index.push(if is_clean { steps as i64 + 1 } else { done[frame] as i64 });
            // The noise on a prefix is told to the model, and is not in the matrix.
            matrix.push(if is_clean { 0 } else { level.timestep as i64 });
            mask.push(i64::from(moves.update));
        }
        let from = round.first_frame() as i64 - start;
        interval.extend([from, from + round.len() as i64]);
    }
    let shape = |values: Vec<i64>, width: usize| -> anyhow::Result<Tensor> {
        Ok(Tensor::from_vec(values, (rounds.len(), width), &Device::Cpu)?.to_dtype(DType::I64)?)
    };
    let name = |what: &str| format!("out.chunk{number}.{what}");
    compare.tensor(&name("step_matrix"), &shape(matrix, frames)?)?;
    compare.tensor(&name("step_index"), &shape(index, frames)?)?;
    compare.tensor(&name("update_mask"), &shape(mask, frames)?)?;
    compare.tensor(&name("valid_interval"), &shape(interval, 2)?)
}
