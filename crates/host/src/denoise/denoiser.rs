//! One model evaluation: guidance branches, and the cache's decision in each.
//!
//! ```text
//! embed ─► (blocks before the decision) ─► decide ─┬─ compute ─► blocks ─► store ─┐
//!                                                  └─ reuse ───► + residual ──────┴─► head
//! ```

use candle_core::Tensor as CandleTensor;
use wan_model::is_finite;
use wan_model::weights::Streamed;
use wan_plugin_api::{Attention, Denoise, FrameLevel, Result as PluginResult, Round, Tensor};

use crate::denoise::branch::{BranchChoice, BranchEvaluation};
use crate::denoise::parts::{BranchCache, DenoiserParts, Expert, UnderWay, WhenBusy};
use crate::denoise::recheck::{Asked, Origin};
use crate::denoise::saved::{StrategyState, StreamState};
use crate::denoise::stream::{Ahead, Stream};
use crate::denoise::tally::Tally;
use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::ledger::Item;
use crate::numbers::wrong_frame;

/// Evaluates the model for a sampler; keeps one cache object per guidance branch of a stream.
pub(crate) struct Denoiser {
    pub(crate) parts: DenoiserParts,
    expert: Option<Expert>,
    /// What was read for turns of the blocks of experts that were given back.
    streamed: Streamed,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) tally: Tally,
    /// A saved stream that goes on with the next round.
    resumed: Option<StreamState<CandleTensor>>,
    /// Evaluations of the round that is under way.
    asked: Vec<Asked>,
    /// Why the last evaluation failed, as itself and not as the sampler passed it on.
    failure: Option<Error>,
}

impl Denoiser {
    /// A denoiser for one run.
    ///
    /// # Errors
    /// If there is no expert, or there are two and no boundary between them.
    pub(crate) fn new(parts: DenoiserParts) -> Result<Self> {
        parts.check()?;
        Ok(Self {
            parts,
            expert: None,
            streamed: Streamed::default(),
            under_way: None,
            tally: Tally::default(),
            resumed: None,
            asked: Vec::new(),
            failure: None,
        })
    }

    /// Prepares for the next round, and says which expert runs it; another window or expert gets
    /// fresh cache objects.
    ///
    /// # Errors
    /// [`Error::Busy`] where the expert has no room yet; then nothing has changed, but that this
    /// run holds no expert any more. Else what a cache says against its context.
    pub(crate) fn begin_round(&mut self, ahead: &Ahead<'_>, when_busy: WhenBusy) -> Result<usize> {
        let boundary = self.parts.boundary_timestep;
        let Some(round) = ahead.rounds.first() else { return Err(no_stream()) };
        self.asked.clear();
        self.go_on(round, when_busy)?;
        let goes_on = |under_way: &UnderWay| under_way.stream.holds(round, boundary);
        if !self.under_way.as_ref().is_some_and(goes_on) {
            let stream = Stream::begin(ahead, boundary);
            self.hold(stream.expert, when_busy)?;
            self.end_caches();
            self.begin_stream(stream)?;
        }
        let Some(under_way) = &mut self.under_way else { return Err(no_stream()) };
        under_way.attention = round.attention;
        under_way.stream.round = ahead.index;
        let expert = under_way.stream.expert;
        self.hold(expert, when_busy)?;
        Ok(expert)
    }

    /// Makes the caches of a saved stream anew, where `round` belongs to it; else it has ended.
    fn go_on(&mut self, round: &Round, when_busy: WhenBusy) -> Result<()> {
        let belongs =
            |s: &StreamState<CandleTensor>| s.stream.holds(round, self.parts.boundary_timestep);
        let Some(expert) = self.resumed.as_ref().filter(|s| belongs(s)).map(|s| s.stream.expert)
        else {
            self.resumed = None;
            return Ok(());
        };
        // Before the state is taken: where the expert has no room yet, nothing has changed.
        self.hold(expert, when_busy)?;
        let Some(StreamState { stream, caches }) = self.resumed.take() else { return Ok(()) };
        self.begin_stream(stream)?;
        let branches = self.under_way.iter_mut().flat_map(|under_way| &mut under_way.branches);
        for (branch, saved) in branches.zip(&caches) {
            let (Some(cache), Some(saved)) = (&mut branch.cache, saved) else { continue };
            let Some(chosen) = &self.parts.cache else { continue };
            let BranchCache { instance, ops } = cache;
            saved.load(chosen, ops, |id, message| instance.extension(id, message, ops))?;
        }
        Ok(())
    }

    /// The stream that is under way, or that is still to go on.
    ///
    /// # Errors
    /// If its cache cannot be saved.
    pub(crate) fn stream_state(&mut self) -> Result<Option<StreamState<CandleTensor>>> {
        let (Some(under_way), cache) = (&mut self.under_way, &self.parts.cache) else {
            return Ok(self.resumed.clone());
        };
        let states = under_way.branches.iter_mut().map(|branch| {
            let (Some(kept), Some(chosen)) = (&mut branch.cache, cache) else { return Ok(None) };
            let BranchCache { instance, ops } = kept;
            let ask = |id: &str, message| instance.extension(id, message, ops);
            StrategyState::of(chosen, ask).map(Some)
        });
        let caches = states.collect::<Result<_>>()?;
        Ok(Some(StreamState { stream: under_way.stream.clone(), caches }))
    }

    /// Goes on from a saved stream.
    pub(crate) fn resume(&mut self, stream: Option<StreamState<CandleTensor>>, tally: Tally) {
        (self.resumed, self.tally) = (stream, tally);
    }

    /// Holds expert `number`, and no other.
    fn hold(&mut self, number: usize, when_busy: WhenBusy) -> Result<()> {
        if self.expert.as_ref().is_some_and(|held| held.number == number) {
            return Ok(());
        }
        // Whoever waits for another one must not keep it from coming.
        self.give_back();
        self.expert = Some(self.parts.lend(number, when_busy)?);
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(expert) = self.expert.take() {
            self.streamed = self.streamed + expert.streamed();
        }
    }

    /// What was read for turns of blocks, once all experts are given back.
    pub(crate) fn streamed(&self) -> Streamed {
        self.streamed
    }

    fn begin_stream(&mut self, stream: Stream) -> Result<()> {
        let Some(expert) = &self.expert else { return Err(no_stream()) };
        let branches = self.parts.begin_branches(&expert.model, &stream)?;
        self.tally
            .see_plans(branches.iter().filter_map(|b| Some(b.cache.as_ref()?.instance.plan())));
        self.under_way = Some(UnderWay { stream, branches, attention: Attention::Bidirectional });
        Ok(())
    }

    /// Gives the expert back and drops the cache objects.
    pub(crate) fn end(&mut self) {
        self.asked.clear();
        self.give_back();
        self.end_caches();
    }

    /// Drops the cache objects; what their handles still keep alive then has leaked.
    fn end_caches(&mut self) {
        let Some(UnderWay { branches, .. }) = self.under_way.take() else { return };
        for BranchCache { instance, ops } in branches.into_iter().filter_map(|b| b.cache) {
            drop(instance);
            self.tally.cache_memory.leaked += ops.ledger().live();
        }
    }

    /// The window's first frame, and its clean latents as the last evaluation of the round before has
    /// predicted them; none after the last round.
    pub(crate) fn predicted(&self) -> Result<Option<(usize, CandleTensor)>> {
        let Some(asked) = self.asked.last() else { return Ok(None) };
        let first = asked.levels.first().map_or(0, |level| level.frame as usize);
        Ok(Some((first, asked.predicted()?)))
    }

    /// Why the last evaluation failed, once.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Who made the wrong numbers that the round ended with. Its evaluations are computed once
    /// more, without the cache.
    pub(crate) fn origin_of_wrong_numbers(&mut self) -> Result<Origin> {
        for Asked { sample, levels, velocity } in std::mem::take(&mut self.asked) {
            // The sampler has made it, of velocities that were looked at before.
            if !is_finite(&sample)? {
                break;
            }
            let Self { parts, expert, under_way, tally, .. } = self;
            let (Some(expert), Some(under_way)) = (&*expert, under_way) else {
                return Err(no_stream());
            };
            let levels = parts.conditions.levels(&levels, under_way.stream.window.0);
            for branch in 0..under_way.branches.len() {
                let name = under_way.branches[branch].name;
                let (sample, levels, leader) = (&sample, levels.as_slice(), None);
                let (parts, under_way, tally) = (&*parts, &mut *under_way, &mut *tally);
                let again = BranchEvaluation {
                    parts,
                    expert,
                    under_way,
                    tally,
                    branch,
                    sample,
                    levels,
                    leader,
                };
                if let Some(part) = again.first_not_finite()? {
                    return Ok(Origin::Model { part, branch: name, expert: expert.number });
                }
            }
            if parts.cache.is_some() && wrong_frame(&velocity)?.is_some() {
                return Ok(Origin::Cache);
            }
        }
        Ok(Origin::Sampler)
    }

    /// Velocity of all branches, guidance applied.
    fn guided_velocity(
        &mut self,
        sample: &CandleTensor,
        levels: &[FrameLevel],
    ) -> Result<CandleTensor> {
        let Self { parts, expert, under_way, tally, .. } = self;
        let (Some(expert), Some(under_way)) = (expert, under_way) else { return Err(no_stream()) };
        let levels = &parts.conditions.levels(levels, under_way.stream.window.0);
        let mut leader: Option<BranchChoice> = None;
        let mut velocities = Vec::with_capacity(under_way.branches.len());
        for number in 0..under_way.branches.len() {
            let (parts, expert) = (&*parts, &*expert);
            let branch = BranchEvaluation {
                parts,
                expert,
                under_way,
                tally,
                branch: number,
                sample,
                levels,
                leader: leader.as_ref(),
            };
            let (velocity, choice) = branch.run()?;
            leader = leader.or(choice);
            velocities.push(velocity);
        }
        under_way.stream.next += 1;
        let caches = under_way.branches.iter().filter_map(|b| b.cache.as_ref());
        tally.cache_memory.see(caches.map(|c| c.ops.ledger()));
        match velocities.as_slice() {
            [cond] => Ok(cond.clone()),
            [cond, uncond, ..] => {
                let guided = (cond - uncond)?.affine(parts.guidance[expert.number], 0.0)?;
                Ok((uncond + guided)?)
            }
            [] => Err(Error::invalid("no guidance branch")),
        }
    }
}

/// The velocity, with zeros at frames that the sampler has not asked for.
fn only_wanted(velocity: CandleTensor, levels: &[FrameLevel]) -> candle_core::Result<CandleTensor> {
    if levels.iter().all(|level| level.wants_velocity) {
        return Ok(velocity);
    }
    let frame = |(place, level): (usize, &FrameLevel)| {
        let frame = velocity.narrow(LATENT_FRAME_AXIS, place, 1)?;
        if level.wants_velocity { Ok(frame) } else { frame.zeros_like() }
    };
    let frames = levels.iter().enumerate().map(frame).collect::<candle_core::Result<Vec<_>>>()?;
    CandleTensor::cat(&frames, LATENT_FRAME_AXIS)
}

fn failed(error: &candle_core::Error) -> wan_plugin_api::Error {
    wan_plugin_api::Error::failed(error.to_string())
}

fn no_stream() -> Error {
    Error::invalid("no round is under way")
}

impl Denoise for Denoiser {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> PluginResult<Tensor> {
        let latents = self.parts.ops.unwrap(sample)?;
        // A library may hand on what it was given as something else.
        let &[1, _, frames, _, _] = latents.dims() else {
            return Err(wan_plugin_api::Error::failed(format!(
                "the model is asked about a tensor of shape {:?}, expected [1, C, F, H, W]",
                latents.dims()
            )));
        };
        if levels.len() != frames {
            return Err(wan_plugin_api::Error::failed(format!(
                "{} levels for {frames} latent frames",
                levels.len()
            )));
        }
        if let Some(level) = levels.iter().find(|level| !level.timestep.is_finite()) {
            let (frame, timestep) = (level.frame, level.timestep);
            return Err(wan_plugin_api::Error::failed(format!(
                "frame {frame} at timestep {timestep}, which is no finite number"
            )));
        }
        let velocity = self.guided_velocity(&latents, levels).map_err(|error| {
            let passed_on = match &error {
                Error::Cancelled => wan_plugin_api::Error::cancelled(),
                other => wan_plugin_api::Error::failed(other.to_string()),
            };
            self.failure = Some(error);
            passed_on
        })?;
        self.asked.push(Asked {
            sample: latents,
            levels: levels.to_vec(),
            velocity: velocity.clone(),
        });
        let velocity = only_wanted(velocity, levels).map_err(|e| failed(&e))?;
        self.parts.ops.wrap(Item::Velocity, velocity, LATENT_FRAME_AXIS, frames)
    }
}
