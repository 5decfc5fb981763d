//! Samplers that move all frames together.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Saved, State};
use wan_plugin_api::{
    Attention, Denoise, Error, FrameLevel, Message, OptionSpec, Result, Round, SampleRequest,
    Sampler, Schedule, Step, Tensor, TensorOps,
};

use crate::{
    Deis, DpmMultistep, DpmSde, Euler, EulerAncestral, Heun, Lcm, Memory, ResMultistep, SaOde,
    SigmaTable, Solver, SolverKind, SolverOptions, UniPc,
};

/// A solver that is offered as a sampler.
pub trait StandAlone: Send + 'static {
    /// The solver.
    const SOLVER: SolverKind;
    /// Name in `--sampler NAME`.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;
}

macro_rules! stand_alone {
    ($($solver:ident as $kind:ident, $id:literal: $doc:literal;)*) => {$(
        impl StandAlone for $solver {
            const SOLVER: SolverKind = SolverKind::$kind;
            const ID: &'static str = $id;
            const DOC: &'static str = $doc;
        }
    )*};
}

stand_alone! {
    UniPc as UniPc, "unipc": "UniPC, predictor and corrector, all frames together";
    DpmMultistep as DpmPlusPlus, "dpm++": "DPM-Solver++ multistep, all frames together";
    Euler as Euler, "euler": "first-order Euler, all frames together";
    Heun as Heun, "heun": "Heun, two evaluations a step, all frames together";
    EulerAncestral as EulerAncestral, "euler-ancestral":
        "Euler with fresh noise in every step, all frames together";
    DpmSde as DpmPlusPlusSde, "dpm++-sde": "DPM-Solver++ 2M SDE, all frames together";
    Deis as Deis, "deis": "DEIS multistep, all frames together";
    Lcm as Lcm, "lcm": "consistency sampling for distilled models, all frames together";
    ResMultistep as ResMultistep, "res-multistep":
        "RES second-order multistep, all frames together";
    SaOde as SaOde, "sa-ode": "deterministic SA-Solver, all frames together";
}

/// The sampler that moves all frames together by solver `S`.
pub struct Uniform<S> {
    frames: u32,
    table: Arc<SigmaTable>,
    /// The steps of the table that are run.
    part: Range<usize>,
    notice: Option<String>,
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

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
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
        let (part, notice) = (options.part(&table)?, options.notice(&table));
        let solver = options.solver(&table);
        Ok(Self { frames: request.frames, table, part, notice, solver, kind: PhantomData })
    }

    fn schedule(&self) -> Result<Schedule> {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        let round = |index: usize| Round {
            levels: (0..self.frames)
                .map(|f| FrameLevel::moving(f, timesteps[index], sigmas[index], sigmas[index + 1]))
                .collect(),
            attention: Attention::Bidirectional,
            evaluations: S::SOLVER.evaluations(&self.table, index),
        };
        let rounds: Vec<Round> = self.part.clone().map(round).collect();
        let notices = self.notice.iter().cloned().collect();
        Ok(Schedule { notices, ..Schedule::from(rounds) })
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (index, levels) = (self.part.start + step.index, &step.round.levels);
        let velocity = model.velocity(sample, levels)?;
        let moved = self.solver.step(index, sample, &velocity, ops)?;
        if step.round.evaluations < 2 {
            return Ok(moved);
        }
        let arrived: Vec<_> = levels.iter().map(|l| self.table.arrived(l, index)).collect();
        let velocity = model.velocity(&moved, &arrived)?;
        self.solver.correct(&moved, &velocity, ops)
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(S::ID, self, id, message)
    }
}

/// The state is the solver's memory; everything else follows from options and request.
impl<S> State for Uniform<S> {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.solver.save().put("solver", &mut saved)?;
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.solver.load(Memory::take("solver", saved)?)
    }
}
