//! Samplers in which all frames move together, one evaluation a step.

use std::marker::PhantomData;
use std::sync::Arc;

use wan_plugin_api::{
    Attention, Denoise, Error, FrameLevel, OptionSpec, Result, Round, SampleRequest, Sampler,
    Schedule, Step, Tensor, TensorOps,
};

use crate::{DpmMultistep, Euler, SigmaTable, Solver, SolverKind, SolverOptions, UniPc};

/// A solver that is a sampler of its own.
pub trait StandAlone: Send + 'static {
    /// Which one.
    const SOLVER: SolverKind;
    /// Name in `--sampler NAME`.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;
}

impl StandAlone for Euler {
    const SOLVER: SolverKind = SolverKind::Euler;
    const ID: &'static str = "euler";
    const DOC: &'static str = "first-order Euler, all frames together";
}

impl StandAlone for UniPc {
    const SOLVER: SolverKind = SolverKind::UniPc;
    const ID: &'static str = "unipc";
    const DOC: &'static str = "UniPC, predictor and corrector, all frames together";
}

impl StandAlone for DpmMultistep {
    const SOLVER: SolverKind = SolverKind::DpmPlusPlus;
    const ID: &'static str = "dpm++";
    const DOC: &'static str = "DPM-Solver++ multistep, all frames together";
}

/// The sampler of solver `S`.
pub struct Uniform<S> {
    frames: u32,
    table: Arc<SigmaTable>,
    solver: Box<dyn Solver>,
    kind: PhantomData<S>,
}

impl<S: StandAlone> Sampler for Uniform<S> {
    type Options = SolverOptions;
    const ID: &'static str = S::ID;
    const DOC: &'static str = S::DOC;

    fn options() -> Vec<OptionSpec> {
        SolverOptions::specs_of(S::SOLVER)
    }

    fn new(options: SolverOptions, request: &SampleRequest) -> Result<Self> {
        if request.prefix_frames > 0 {
            return Err(Error::invalid(format!(
                "sampler {} moves all frames together and cannot keep the {} clean latent frames \
                 at the start; use --sampler diffusion-forcing",
                S::ID,
                request.prefix_frames
            )));
        }
        let options = SolverOptions { solver: S::SOLVER, ..options };
        let table = options.table(request.steps, request.shift)?;
        let solver = options.solver(&table);
        Ok(Self { frames: request.frames, table, solver, kind: PhantomData })
    }

    fn schedule(&self) -> Result<Schedule> {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        let round = |(step, timestep): (usize, &f64)| Round {
            levels: (0..self.frames)
                .map(|f| FrameLevel::moving(f, *timestep, sigmas[step], sigmas[step + 1]))
                .collect(),
            attention: Attention::Bidirectional,
            evaluations: 1,
        };
        Ok(timesteps.iter().enumerate().map(round).collect::<Vec<_>>().into())
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let velocity = model.velocity(sample, &step.round.levels)?;
        self.solver.step(step.index, sample, &velocity, ops)
    }
}
