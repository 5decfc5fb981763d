//! One run: a sampler carries latents from noise to clean, a round at a time.
//!
//! [`Run::new`] is the only way to set one up: production, the planner of caches and the golden
//! cases differ in the values of [`RunSpec`] and in who has the
//! [`Experts`](crate::denoise::experts::Experts). Everything that a run needs is its own, so it can
//! be kept, moved to another thread and stepped in turn with others.

pub(crate) mod handover;
mod sampled;
pub(crate) mod spec;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor as CandleTensor;
use wan_plugin_api::library::SamplerInstance;
use wan_plugin_api::{Error as PluginError, Schedule, Step};

use crate::denoise::denoiser::Denoiser;
use crate::denoise::expert_use::ExpertUse;
use crate::denoise::ops::HostOps;
use crate::denoise::parts::{DenoiserParts, WhenBusy};
use crate::denoise::recheck::Origin;
use crate::denoise::saved::{StrategyState, TensorBytes, check_keeps_state};
use crate::denoise::tally::{DecisionCount, Tally};
use crate::device::{self, DeviceMemory};
use crate::error::{Error, Result};
use crate::latents::{LATENT_FRAME_AXIS, replace_frames};
use crate::ledger::Item;
use crate::numbers::{WrongFrame, wrong_frame};
use crate::plugins::registry::Chosen;
use crate::request::on_nan::OnNan;
use crate::run::spec::RunSpec;
use crate::run::state::RunState;

pub use sampled::Sampled;

/// A run between two of its rounds.
pub struct Run {
    sampler: SamplerInstance,
    chosen: Chosen,
    schedule: Arc<Schedule>,
    denoiser: Denoiser,
    ops: HostOps,
    latents: CandleTensor,
    /// Sigma that the schedule leaves each latent frame at.
    ends: Vec<f64>,
    /// The next round.
    next: usize,
    /// Evaluations before it.
    evaluation: u32,
    experts: Vec<ExpertUse>,
    device_memory: Option<DeviceMemory>,
    notices: Vec<String>,
    seconds: f64,
    /// Of what the run was resumed from.
    sampler_bytes_before: u64,
    on_nan: OnNan,
    /// Whether wrong numbers were said already.
    has_warned: bool,
    is_broken: bool,
}

/// Where a run stands after a round.
#[derive(Debug, Clone, Copy)]
pub struct RoundDone {
    /// Rounds done.
    pub done: usize,
    /// Rounds in all.
    pub rounds: usize,
    /// Decisions so far.
    pub decisions: DecisionCount,
}

impl Run {
    /// Sets a run up: makes the sampler, asks for its schedule, makes the latents. No expert is
    /// loaded yet.
    ///
    /// # Errors
    /// What the sampler says against the request; a schedule that does not fit the video, or that
    /// ends in noise where it may not; latents of an earlier run that do not fit.
    pub fn new(spec: RunSpec) -> Result<Self> {
        Self::set_up(spec, |spec, schedule| spec.latents(schedule))
    }

    /// A run before its first round, of latents that are made once its schedule is known.
    fn set_up(
        spec: RunSpec,
        latents: impl FnOnce(&RunSpec, &Schedule) -> Result<CandleTensor>,
    ) -> Result<Self> {
        let (frames, sampler_id) =
            (spec.shape[LATENT_FRAME_AXIS], spec.sampler.strategy.id.clone());
        let sampler = spec.sampler.sampler(&spec.request())?;
        let schedule = sampler.schedule().map_err(Error::strategy(&sampler_id))?;
        let ends = schedule.ends(frames, spec.parts.conditions.prefix_frames());
        let ends = ends.map_err(Error::strategy(&sampler_id))?;
        let ended = handover::check_end(&ends, spec.may_end_noisy);
        ended.map_err(|error| spec.sampler.blame(error))?;
        let latents = latents(&spec, &schedule)?;
        let mut notices = schedule.notices.clone();
        let cannot_be_saved = check_can_be_saved(&spec.sampler, spec.parts.cache.as_ref()).err();
        notices.extend(cannot_be_saved.map(|error| error.to_string()));
        let schedule = Arc::new(schedule);
        Ok(Self {
            sampler,
            notices,
            chosen: spec.sampler,
            ops: spec.parts.ops.sibling(),
            experts: vec![ExpertUse::default(); spec.parts.guidance.len()],
            denoiser: Denoiser::new(spec.parts, schedule.clone())?,
            schedule,
            latents,
            ends,
            next: 0,
            evaluation: 0,
            device_memory: None,
            seconds: 0.0,
            sampler_bytes_before: 0,
            on_nan: spec.on_nan,
            has_warned: false,
            is_broken: false,
        })
    }

    /// Sets a run up that goes on from a state: fresh objects of the same strategies, with what the
    /// earlier ones knew. What follows has the bits that it would have had.
    ///
    /// # Errors
    /// As [`new`](Self::new); if the schedule is another one than the state's, and what a strategy
    /// says against its state.
    pub fn resume(spec: RunSpec, state: &RunState) -> Result<Self> {
        let mut run = Self::set_up(spec, |spec, schedule| state.latents_of(spec, schedule))?;
        let Self { sampler, chosen, ops, .. } = &mut run;
        state.sampler.load(chosen, ops, |id, message| sampler.extension(id, message))?;
        (run.next, run.evaluation) = (state.next, state.evaluation);
        run.experts.clone_from(&state.experts);
        (run.device_memory, run.seconds) = (state.device_memory, state.seconds);
        run.sampler_bytes_before = state.sampler_bytes_max;
        run.denoiser.resume(state.stream.clone(), state.tally.clone());
        Ok(run)
    }

    /// All that is needed to go on from here, in another process too.
    ///
    /// # Errors
    /// If sampler or cache cannot be saved ([`can_be_saved`](Self::can_be_saved)), or the run has
    /// failed or was stopped within a round.
    pub fn state(&mut self) -> Result<RunState> {
        self.check_whole()?;
        self.can_be_saved()?;
        let Self { sampler, chosen, .. } = self;
        let sampler = StrategyState::of(chosen, |id, message| sampler.extension(id, message))?;
        Ok(RunState {
            schedule: (*self.schedule).clone(),
            next: self.next,
            evaluation: self.evaluation,
            latents: TensorBytes::of(&self.latents)?,
            sampler,
            stream: self.denoiser.stream_state()?,
            tally: self.denoiser.tally.clone(),
            experts: self.experts.clone(),
            sampler_bytes_max: self.sampler_bytes_max(),
            device_memory: self.device_memory,
            seconds: self.seconds,
        })
    }

    /// Whether [`state`](Self::state) can be asked for.
    ///
    /// # Errors
    /// If sampler or cache do not answer [`STATE`](wan_plugin_api::extensions::STATE), naming it.
    pub fn can_be_saved(&self) -> Result<()> {
        check_can_be_saved(&self.chosen, self.denoiser.parts.cache.as_ref())
    }

    fn check_whole(&self) -> Result<()> {
        if !self.is_broken {
            return Ok(());
        }
        Err(Error::invalid("a run that has failed or was stopped within a round does not go on"))
    }

    /// Most bytes that the sampler's handles kept between rounds.
    fn sampler_bytes_max(&self) -> u64 {
        self.ops.ledger().peak().max(self.sampler_bytes_before)
    }

    /// What whoever asked should know, a line each, known before the first round: what the sampler
    /// says of its schedule, and that the run cannot be saved, where it cannot.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// All rounds, done and to come.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What its denoiser is made of.
    pub(crate) fn parts(&self) -> &DenoiserParts {
        &self.denoiser.parts
    }

    /// The latents now, `[1, C, F, H, W]`, f32.
    pub fn latents(&self) -> &CandleTensor {
        &self.latents
    }

    /// Does the next round; none: all are done.
    ///
    /// # Errors
    /// [`Error::Busy`] where the expert of the round has no room beside those that are lent to
    /// other runs: nothing has changed, call it again later. [`Error::Cancelled`] if asked to stop.
    /// What the sampler, the cache, the model or the device said; the run is of no use after that.
    pub fn round(&mut self) -> Result<Option<RoundDone>> {
        self.round_with(WhenBusy::Say)
    }

    /// As [`round`](Self::round), but waits for the expert of the round. For runs on threads of
    /// their own.
    ///
    /// # Errors
    /// As [`round`](Self::round), but for `Busy`.
    pub fn round_wait(&mut self) -> Result<Option<RoundDone>> {
        self.round_with(WhenBusy::Wait)
    }

    fn round_with(&mut self, when_busy: WhenBusy) -> Result<Option<RoundDone>> {
        if self.next == self.schedule.rounds.len() {
            return Ok(None);
        }
        self.check_whole()?;
        self.ops.cancel().check()?;
        let started = Instant::now();
        let expert = self.denoiser.begin_round(self.next, when_busy)?;
        // Until the round is whole, half of it may be in the sampler and in the caches.
        self.is_broken = true;
        self.step()?;
        self.is_broken = false;
        let round = &self.schedule.rounds[self.next];
        self.experts[expert].see(round);
        self.evaluation += round.evaluations;
        self.next += 1;
        if self.next == self.schedule.rounds.len() {
            self.denoiser.end();
        }
        self.ops.ledger().settle();
        if let Some(now) = device::memory(self.latents.device()) {
            self.device_memory = Some(self.device_memory.map_or(now, |before| before.max(now)));
        }
        self.seconds += started.elapsed().as_secs_f64();
        let decisions = DecisionCount::of(&self.denoiser.tally.records, None);
        Ok(Some(RoundDone { done: self.next, rounds: self.schedule.rounds.len(), decisions }))
    }

    /// Lets the sampler move the window of the next round.
    fn step(&mut self) -> Result<()> {
        let round = &self.schedule.rounds[self.next];
        let (first, frames) = (round.first_frame(), round.len());
        let step = Step {
            index: self.next,
            evaluation: self.evaluation,
            evaluations_left: self.schedule.evaluations() - self.evaluation,
            round,
        };
        let window = self.latents.narrow(LATENT_FRAME_AXIS, first, frames)?.contiguous()?;
        let shape = window.dims().to_vec();
        let sample = self.ops.wrap(Item::Sample, window, LATENT_FRAME_AXIS, frames);
        let stepped = sample
            .and_then(|sample| self.sampler.step(&sample, &step, &mut self.denoiser, &self.ops))
            .and_then(|stepped| self.ops.unwrap(&stepped));
        // The sampler hands on what cache, model or device said; it is theirs.
        if let Some(failure) = self.denoiser.take_failure() {
            return Err(failure);
        }
        let id = &self.chosen.strategy.id;
        let stepped = stepped.map_err(Error::strategy(id))?;
        if stepped.dims() != shape {
            let message =
                format!("{}: a step of {shape:?} gave {:?}", self.place(), stepped.dims());
            return Err(Error::strategy(id)(PluginError::failed(message)));
        }
        if let Some(wrong) = wrong_frame(&stepped)?.filter(|_| !self.has_warned) {
            let error = self.wrong_numbers(wrong, first)?;
            if self.on_nan == OnNan::Stop {
                return Err(error);
            }
            self.has_warned = true;
            self.notices.push(format!("{error}; `on_nan` warn: the run goes on"));
        }
        self.latents = replace_frames(&self.latents, first, &stepped)?;
        Ok(())
    }

    /// What to say of a round that ended with wrong numbers; `first` is the window's first frame.
    fn wrong_numbers(&mut self, wrong: WrongFrame, first: usize) -> Result<Error> {
        let (place, frame) = (self.place(), first + wrong.frame);
        let what = format!("{place}: latent frame {frame}: {}", wrong.fault);
        let by = |id: &str| Error::strategy(id)(PluginError::failed(what.clone()));
        Ok(match self.denoiser.origin_of_wrong_numbers()? {
            Origin::Model { part, branch, expert } => Error::NotFinite(format!(
                "{what}; the first are those of {part} (transformer {expert}, branch {branch}), \
                 computed once more without a cache; such weights are damaged, or need a wider \
                 `dtype`: bf16 in place of f16, or f32"
            )),
            Origin::Cache => by(self.cache_id()),
            Origin::Sampler => by(&self.chosen.strategy.id),
        })
    }

    /// The round that is under way, counted from 1, as messages say it.
    fn place(&self) -> String {
        format!("round {} of {}", self.next + 1, self.schedule.rounds.len())
    }

    fn cache_id(&self) -> &str {
        self.denoiser.parts.cache.as_ref().map_or("no cache", |cache| &cache.strategy.id)
    }

    /// Does all rounds that are left, waiting for experts; `progress` is called after each.
    ///
    /// # Errors
    /// As [`round_wait`](Self::round_wait).
    pub fn finish_with(mut self, progress: &mut dyn FnMut(&RoundDone)) -> Result<Sampled> {
        while let Some(done) = self.round_wait()? {
            progress(&done);
        }
        self.finish()
    }

    /// What the run leaves behind, once [`round`](Self::round) has nothing more to do.
    ///
    /// # Errors
    /// If rounds are left.
    pub fn finish(self) -> Result<Sampled> {
        if self.next < self.schedule.rounds.len() {
            return Err(Error::invalid(format!(
                "{} of {} rounds are done; a run is finished after its last one",
                self.next,
                self.schedule.rounds.len()
            )));
        }
        self.end()
    }

    /// What the rounds that are done leave behind, of a run that has failed or will not go on:
    /// latents that are still noisy, with the sigma of each frame, and what is known of their making.
    ///
    /// # Errors
    /// If no round is done.
    pub fn finish_early(mut self) -> Result<Sampled> {
        if self.next == 0 {
            return Err(Error::invalid("no round is done"));
        }
        // A frame that none of them has moved is where its first one would begin.
        let frames = self.latents.dim(LATENT_FRAME_AXIS)?;
        self.ends = self.schedule.begins(frames);
        for round in &self.schedule.rounds[..self.next] {
            for level in round.levels.iter().filter(|level| level.update) {
                self.ends[level.frame as usize] = level.sigma_next;
            }
        }
        self.end()
    }

    fn end(mut self) -> Result<Sampled> {
        self.denoiser.end();
        let sampler_bytes_max = self.sampler_bytes_max();
        let Tally { records, signals, cache_memory, cache_plan } = self.denoiser.tally;
        Ok(Sampled {
            latents: self.denoiser.parts.conditions.finish(&self.latents)?,
            records,
            signals,
            cache_memory,
            cache_plan,
            experts: self.experts,
            sampler_bytes_max,
            device_memory: self.device_memory,
            ends_at: if self.ends.iter().all(|sigma| *sigma == 0.0) {
                Vec::new()
            } else {
                self.ends
            },
            notices: self.notices,
            seconds: self.seconds,
        })
    }
}

/// Refuses a sampler or a cache that cannot be saved.
fn check_can_be_saved(sampler: &Chosen, cache: Option<&Chosen>) -> Result<()> {
    check_keeps_state(sampler)?;
    cache.map_or(Ok(()), check_keeps_state)
}
