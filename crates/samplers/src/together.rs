//! The sampler of any solver that moves all frames together, without its type.

use wan_plugin_api::state::{Saved, State};
use wan_plugin_api::{
    Attention, Denoise, Error, Result, Round, SampleRequest, Schedule, Step, Tensor, TensorOps,
};

use crate::{Descent, Memory, Solver};

/// All frames on one way, moved by one solver.
pub(crate) struct Together<T> {
    frames: u32,
    descent: Descent<T>,
    pub(crate) solver: T,
}

impl<T: Solver> Together<T> {
    /// For the sampler of this id.
    ///
    /// # Errors
    /// `Invalid` for a request with clean frames at its start, and the error of the solver.
    pub(crate) fn new(id: &str, descent: Descent<T>, request: &SampleRequest) -> Result<Self> {
        if request.prefix_frames > 0 {
            return Err(Error::invalid(format!(
                "sampler {id} moves all frames together and cannot keep the {} clean latent frames \
                 at the start; use --sampler diffusion-forcing",
                request.prefix_frames
            )));
        }
        let solver = descent.solver(0)?;
        Ok(Self { frames: request.frames, descent, solver })
    }

    pub(crate) fn schedule(&self) -> Schedule {
        let round = |index: usize| Round {
            levels: (0..self.frames).map(|frame| self.descent.moving(frame, index)).collect(),
            attention: Attention::Bidirectional,
            evaluations: self.descent.evaluations(index),
        };
        let rounds: Vec<Round> = self.descent.part().map(round).collect();
        let notices = self.descent.notice().map(String::from).into_iter().collect();
        Schedule { notices, ..Schedule::from(rounds) }
    }

    pub(crate) fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (index, levels) = (self.descent.part().start + step.index, &step.round.levels);
        let velocity = model.velocity(sample, levels)?;
        let mut moved = self.solver.step(index, sample, &velocity, ops)?;
        for evaluation in 1..step.round.evaluations {
            let seen = levels.iter().map(|level| self.descent.seen(level, index, evaluation));
            let velocity = model.velocity(&moved, &seen.collect::<Result<Vec<_>>>()?)?;
            moved = self.solver.correct((index, evaluation), &moved, &velocity, ops)?;
        }
        Ok(moved)
    }
}

/// The state is the solver's memory; everything else follows from options and request.
impl State for Together<Box<dyn Solver>> {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.solver.save().put("solver", &mut saved)?;
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.solver.load(Memory::take("solver", saved)?)
    }
}
