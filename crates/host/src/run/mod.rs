//! One run: a sampler carries latents from noise to clean, a round at a time.
//!
//! [`Run::new`] is the only way to set one up: production, the planner of caches and the golden
//! cases differ in the values of [`RunSpec`] and in who has the
//! [`Experts`](crate::denoise::experts::Experts). Everything that a run needs is its own, so it can
//! be kept, moved to another thread and stepped in turn with others.

mod ending;
pub(crate) mod frames;
pub(crate) mod handing_out;
pub(crate) mod handover;
mod preview;
pub(crate) mod rounds;
mod sampled;
mod saving;
pub(crate) mod spec;
pub(crate) mod state;

use std::time::Instant;

use candle_core::Tensor as CandleTensor;
use wan_plugin_api::library::{AnySampler, SamplerInstance};
use wan_plugin_api::{DType, Error as PluginError, Round, ScheduleSize, Step};

use crate::denoise::denoiser::Denoiser;
use crate::denoise::expert_use::ExpertUse;
use crate::denoise::ops::HostOps;
use crate::denoise::parts::{DenoiserParts, WhenBusy};
use crate::denoise::recheck::Origin;
use crate::denoise::saved::check_keeps_state;
use crate::denoise::stream::Stream;
use crate::denoise::tally::DecisionCount;
use crate::device::{self, DeviceMemory};
use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::ledger::Item;
use crate::numbers::{WrongFrame, wrong_frame};
use crate::plugins::registry::Chosen;
use crate::request::on_nan::OnNan;
use crate::run::frames::{Frames, Source};
use crate::run::rounds::Rounds;
use crate::run::spec::RunSpec;
use crate::run::state::RunState;

pub use sampled::Sampled;

/// A run between two of its rounds.
pub struct Run {
    sampler: SamplerInstance,
    chosen: Chosen,
    rounds: Rounds,
    denoiser: Denoiser,
    ops: HostOps,
    frames: Frames,
    /// Round that reads each latent frame last, once that was asked for.
    last_readers: Option<Vec<Option<usize>>>,
    /// Sigma that each latent frame is at; none for one that has not been moved.
    reached: Vec<Option<f64>>,
    /// Evaluations before the next round.
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
    /// Whether what the run was before a round is kept while the round is under way.
    keeps_boundary: bool,
    /// What it was before the round that is under way, or that has failed.
    boundary: Option<RunState>,
    boundary_bytes_max: u64,
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
        Self::set_up(spec, |spec, rounds, sampler| spec.source(|| rounds.begins(sampler)))
    }

    /// A run before its first round, of latents that are made once its rounds are known.
    fn set_up(
        spec: RunSpec,
        source: impl FnOnce(&RunSpec, &Rounds, &dyn AnySampler) -> Result<Source>,
    ) -> Result<Self> {
        let frames = (spec.shape[LATENT_FRAME_AXIS], spec.parts.conditions.prefix_frames());
        let sampler = spec.sampler.sampler(&spec.request())?;
        let cancel = spec.parts.ops.cancel();
        let (rounds, mut notices) =
            Rounds::of(&*sampler, &spec.sampler, frames, spec.may_end_noisy, cancel)?;
        let frames_of = source(&spec, &rounds, &*sampler)?;
        let cannot_be_saved = check_can_be_saved(&spec.sampler, spec.parts.cache.as_ref()).err();
        notices.extend(cannot_be_saved.map(|error| error.to_string()));
        let ops = spec.parts.ops.sibling();
        Ok(Self {
            sampler,
            notices,
            chosen: spec.sampler,
            experts: vec![ExpertUse::default(); spec.parts.guidance.len()],
            denoiser: Denoiser::new(spec.parts)?,
            rounds,
            frames: Frames::new(spec.shape, frames_of, ops.sibling()),
            ops,
            last_readers: None,
            reached: vec![None; frames.0],
            evaluation: 0,
            device_memory: None,
            seconds: 0.0,
            sampler_bytes_before: 0,
            on_nan: spec.on_nan,
            has_warned: false,
            is_broken: false,
            keeps_boundary: false,
            boundary: None,
            boundary_bytes_max: 0,
        })
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

    /// Rounds and evaluations in all.
    pub fn size(&self) -> ScheduleSize {
        self.rounds.size()
    }

    /// Rounds that are done.
    pub fn rounds_done(&self) -> usize {
        self.rounds.next()
    }

    /// Evaluations that are done; each runs once per guidance branch.
    pub fn evaluations_done(&self) -> u32 {
        self.evaluation
    }

    /// Whether no round is left.
    pub fn is_done(&self) -> bool {
        self.rounds.is_empty()
    }

    /// Goes through the rounds that are to come; the run stays where it is.
    ///
    /// # Errors
    /// What the sampler says when it is asked for them.
    pub fn each_round(&self, mut see: impl FnMut(&Round)) -> Result<()> {
        let mut rounds = self.rounds.clone();
        while let Some(round) = rounds.take(&*self.sampler)? {
            see(&round);
        }
        Ok(())
    }

    /// Goes through the streams of evaluations that are to come.
    pub(crate) fn each_stream(&self, see: impl FnMut(&Stream) -> Result<()>) -> Result<()> {
        let boundary = self.denoiser.parts.boundary_timestep;
        self.rounds.clone().each_stream(&*self.sampler, boundary, self.ops.cancel(), see)
    }

    /// What its denoiser is made of.
    pub(crate) fn parts(&self) -> &DenoiserParts {
        &self.denoiser.parts
    }

    /// The latents now, `[1, C, n, H, W]`, f32: of all frames that were not handed out. Those that no
    /// round has read yet are made, and held from now on.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn latents(&mut self) -> Result<CandleTensor> {
        self.frames.all()
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
        if self.rounds.is_empty() {
            return Ok(None);
        }
        self.check_whole()?;
        self.ops.cancel().check()?;
        let started = Instant::now();
        let expert = self.denoiser.begin_round(&self.rounds.ahead(), when_busy)?;
        if self.keeps_boundary {
            let boundary = self.state()?;
            self.boundary_bytes_max = self.boundary_bytes_max.max(boundary.bytes());
            self.boundary = Some(boundary);
        }
        // Until the round is whole, half of it may be in the sampler and in the caches.
        self.is_broken = true;
        self.step()?;
        let Some(round) = self.rounds.take(&*self.sampler)? else { return Ok(None) };
        (self.is_broken, self.boundary) = (false, None);
        self.experts[expert].see(&round);
        self.evaluation += round.evaluations;
        see(&mut self.reached, &round);
        if self.rounds.is_empty() {
            self.denoiser.end();
        }
        self.ops.ledger().settle();
        if let Some(now) = device::memory(self.ops.device()) {
            self.device_memory = Some(self.device_memory.map_or(now, |before| before.max(now)));
        }
        self.seconds += started.elapsed().as_secs_f64();
        let decisions = self.denoiser.tally.decisions.all();
        let (done, rounds) = (self.rounds.next(), self.rounds.size().rounds);
        Ok(Some(RoundDone { done, rounds, decisions }))
    }

    /// Lets the sampler move the window of the next round.
    fn step(&mut self) -> Result<()> {
        let round = self.rounds.first()?;
        let (first, frames) = (round.first_frame(), round.len());
        let step = Step {
            index: self.rounds.next(),
            evaluation: self.evaluation,
            evaluations_left: self.rounds.size().evaluations - self.evaluation,
            round,
        };
        let window = self.frames.window(first, frames)?;
        let shape = window.dims().to_vec();
        let sample = self.ops.wrap(Item::Sample, window, LATENT_FRAME_AXIS, frames);
        let stepped = sample
            .and_then(|sample| self.sampler.step(&sample, &step, &mut self.denoiser, &self.ops))
            .and_then(|stepped| Ok((stepped.form().dtype(), self.ops.unwrap(&stepped)?)));
        // The sampler hands on what cache, model or device said; it is theirs.
        if let Some(failure) = self.denoiser.take_failure() {
            return Err(failure);
        }
        let id = &self.chosen.strategy.id;
        let (dtype, stepped) = stepped.map_err(self.ops.error_of(id))?;
        if stepped.dims() != shape || dtype != Some(DType::F32) {
            let dtype = dtype.map_or("no known format".into(), |dtype| format!("{dtype:?}"));
            let message = format!(
                "{}: a step of {shape:?} in F32 gave {:?} in {dtype}",
                self.place(),
                stepped.dims()
            );
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
        self.frames.put(first, &stepped)
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
        format!("round {} of {}", self.rounds.next() + 1, self.rounds.size().rounds)
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
}

/// Takes note of where a round has moved latent frames to.
fn see(reached: &mut [Option<f64>], round: &Round) {
    for level in round.levels.iter().filter(|level| level.update) {
        reached[level.frame as usize] = Some(level.sigma_next);
    }
}

/// Refuses a sampler or a cache that cannot be saved.
fn check_can_be_saved(sampler: &Chosen, cache: Option<&Chosen>) -> Result<()> {
    check_keeps_state(sampler)?;
    cache.map_or(Ok(()), check_keeps_state)
}
