//! A run as it is between two rounds, taken out and put back: what checkpoints are made of.

use super::{Run, check_can_be_saved, see};
use crate::denoise::saved::StrategyState;
use crate::error::Result;
use crate::run::spec::RunSpec;
use crate::run::state::{Parts, RunState};

impl Run {
    /// Sets a run up that goes on from a state: fresh objects of the same strategies, with what the
    /// earlier ones knew. What follows has the bits that it would have had.
    ///
    /// # Errors
    /// As [`new`](Self::new); if the schedule is another one than the state's, and what a strategy
    /// says against its state.
    pub fn resume(spec: RunSpec, state: &RunState) -> Result<Self> {
        let state = &state.0;
        let mut run =
            Self::set_up(spec, |spec, rounds, sampler| spec.source(|| rounds.begins(sampler)))?;
        let reached = &mut run.reached;
        run.rounds =
            run.rounds.resume(&*run.sampler, &state.rounds, |round| see(reached, round))?;
        run.frames.resume(&state.frames)?;
        let Self { sampler, chosen, ops, .. } = &mut run;
        state.sampler.load(chosen, ops, |id, message| sampler.extension(id, message, ops))?;
        run.evaluation = state.evaluation;
        run.experts.clone_from(&state.experts);
        (run.device_memory, run.seconds) = (state.device_memory, state.seconds);
        run.sampler_bytes_before = state.sampler_bytes_max;
        run.boundary_bytes_max = state.boundary_bytes_max;
        run.denoiser.resume(state.stream.clone(), state.tally.clone());
        Ok(run)
    }

    /// From now on keeps what it was before a round while the round is under way, so that
    /// [`state`](Self::state) can be asked for after a round that has failed or was stopped. At most
    /// one more set of the tensors of sampler and cache is alive then.
    pub fn keep_boundary(&mut self) {
        self.keeps_boundary = true;
    }

    /// All that is needed to go on from here, in another process too; after a round that has failed
    /// or was stopped, from before it ([`keep_boundary`](Self::keep_boundary)).
    ///
    /// # Errors
    /// If sampler or cache cannot be saved ([`can_be_saved`](Self::can_be_saved)), or the run has
    /// failed or was stopped within a round and has kept nothing from before it.
    pub fn state(&mut self) -> Result<RunState> {
        if let Some(boundary) = self.boundary.as_ref().filter(|_| self.is_broken) {
            return Ok(boundary.clone());
        }
        self.check_whole()?;
        self.can_be_saved()?;
        let Self { sampler, chosen, ops, .. } = self;
        let ask = |id: &str, message| sampler.extension(id, message, ops);
        let sampler = StrategyState::of(chosen, ask)?;
        Ok(RunState(Parts {
            rounds: self.rounds.state(),
            evaluation: self.evaluation,
            frames: self.frames.state(),
            sampler,
            stream: self.denoiser.stream_state()?,
            tally: self.denoiser.tally.clone(),
            experts: self.experts.clone(),
            sampler_bytes_max: self.sampler_bytes_max(),
            boundary_bytes_max: self.boundary_bytes_max,
            device_memory: self.device_memory,
            seconds: self.seconds,
        }))
    }

    /// Whether [`state`](Self::state) can be asked for.
    ///
    /// # Errors
    /// If sampler or cache do not answer [`STATE`](wan_plugin_api::extensions::STATE), naming it.
    pub fn can_be_saved(&self) -> Result<()> {
        check_can_be_saved(&self.chosen, self.denoiser.parts.cache.as_ref())
    }
}
