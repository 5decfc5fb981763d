//! The loop over rounds: a sampler carries the latents from noise to clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor as CandleTensor;
use wan_plugin_api::library::SamplerInstance;
use wan_plugin_api::{CachePlan, Schedule, Step};

use crate::denoiser::{Denoiser, DenoiserParts, LATENT_FRAME_AXIS};
use crate::device::{self, DeviceMemory};
use crate::error::{Error, Result};
use crate::expert_use::ExpertUse;
use crate::ledger::Item;
use crate::record::{CacheMemory, DecisionCount, EvaluationRecord, SignalMemory};

/// Everything that one sampling needs.
pub struct SamplingJob<'m> {
    /// The sampler.
    pub sampler: SamplerInstance,
    /// Its id, for messages.
    pub sampler_id: String,
    /// Its schedule.
    pub schedule: Schedule,
    /// Model, prompts, cache.
    pub parts: DenoiserParts<'m>,
    /// Noise, and clean frames where there is a prefix: `[1, C, F, H, W]`, f32.
    pub latents: CandleTensor,
    /// Sigma that the schedule leaves each latent frame at: [`Schedule::ends`].
    pub ends: Vec<f64>,
    /// Set to stop between rounds.
    pub cancel: Arc<AtomicBool>,
}

/// Where a sampling stands, after each round.
pub struct RoundDone<'a> {
    /// Rounds done.
    pub done: usize,
    /// Rounds in all.
    pub rounds: usize,
    /// Decisions so far.
    pub decisions: DecisionCount,
    /// The latents now.
    pub latents: &'a CandleTensor,
}

/// What a sampling leaves behind.
pub struct Sampled {
    /// Clean latents `[1, C, F, H, W]`, normalised as the model has them.
    pub latents: CandleTensor,
    /// Decisions of every evaluation and branch.
    pub records: Vec<EvaluationRecord>,
    /// Largest time signals.
    pub signals: SignalMemory,
    /// What the caches declared and held.
    pub cache_memory: CacheMemory,
    /// What the cache said of itself, if there was one.
    pub cache_plan: Option<CachePlan>,
    /// Rounds of each expert.
    pub experts: Vec<ExpertUse>,
    /// Most bytes that the sampler's handles kept between rounds.
    pub sampler_bytes_max: u64,
    /// What tensors took of the GPU at most, between rounds and ever; none on the CPU.
    pub device_memory: Option<DeviceMemory>,
    /// Sigma that each latent frame ends at; empty where all are clean.
    pub ends_at: Vec<f64>,
    /// What the sampler wants the user to know.
    pub notices: Vec<String>,
    /// Seconds of the loop.
    pub seconds: f64,
}

impl SamplingJob<'_> {
    /// Runs all rounds; `progress` is called after each.
    ///
    /// # Errors
    /// What the sampler, the cache or the model said; `Cancelled` if asked to stop.
    pub fn run(mut self, progress: &mut dyn FnMut(&RoundDone<'_>)) -> Result<Sampled> {
        let started = Instant::now();
        let rounds = self.schedule.rounds.len();
        let (mut evaluation, evaluations) = (0, self.schedule.evaluations());
        let ops = self.parts.ops.sibling();
        let mut experts = vec![ExpertUse::default(); self.parts.experts.len()];
        let mut device_memory: Option<DeviceMemory> = None;
        let mut denoiser = Denoiser::new(self.parts, self.schedule.clone())?;
        for (index, round) in self.schedule.rounds.iter().enumerate() {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            denoiser.begin_round(index)?;
            experts[denoiser.stream.expert].see(round);
            let (first, frames) = (round.first_frame(), round.len());
            let step =
                Step { index, evaluation, evaluations_left: evaluations - evaluation, round };
            let window = self.latents.narrow(LATENT_FRAME_AXIS, first, frames)?.contiguous()?;
            let stepped = ops
                .wrap(Item::Sample, window, LATENT_FRAME_AXIS, frames)
                .and_then(|sample| self.sampler.step(&sample, &step, &mut denoiser, &ops))
                .and_then(|stepped| ops.unwrap(&stepped))
                .map_err(Error::strategy(&self.sampler_id))?;
            self.latents = replace_frames(&self.latents, first, &stepped)?;
            ops.ledger().settle();
            if let Some(now) = device::memory(self.latents.device()) {
                device_memory = Some(device_memory.map_or(now, |before| before.max(now)));
            }
            evaluation += round.evaluations;
            let decisions = DecisionCount::of(&denoiser.records, None);
            progress(&RoundDone { done: index + 1, rounds, decisions, latents: &self.latents });
        }
        denoiser.end_caches();
        Ok(Sampled {
            latents: denoiser.parts.conditioning.finish(&self.latents)?,
            records: denoiser.records,
            signals: denoiser.signals,
            cache_memory: denoiser.cache_memory,
            cache_plan: denoiser.cache_plan,
            experts,
            sampler_bytes_max: ops.ledger().peak(),
            device_memory,
            ends_at: if self.ends.iter().all(|sigma| *sigma == 0.0) {
                Vec::new()
            } else {
                self.ends
            },
            notices: self.schedule.notices,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// `latents` with the frames from `first` on replaced by `window`.
fn replace_frames(
    latents: &CandleTensor,
    first: usize,
    window: &CandleTensor,
) -> candle_core::Result<CandleTensor> {
    let (frames, len) = (latents.dims()[LATENT_FRAME_AXIS], window.dims()[LATENT_FRAME_AXIS]);
    if len == frames {
        return Ok(window.clone());
    }
    let before = latents.narrow(LATENT_FRAME_AXIS, 0, first)?;
    let after = latents.narrow(LATENT_FRAME_AXIS, first + len, frames - first - len)?;
    CandleTensor::cat(&[&before, window, &after], LATENT_FRAME_AXIS)
}
