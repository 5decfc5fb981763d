//! Samplers that move all frames together.

use std::marker::PhantomData;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{
    Denoise, Message, OptionSpec, OptionValues, Result, SampleRequest, Sampler, Schedule, Step,
    Tensor, TensorOps, state,
};

use crate::together::Together;
use crate::{Descent, Entry, Joined, LevelOptions, NamedSolver, Solver};

/// What is said of every such sampler, behind what is said of its solver.
pub(crate) const ALL_FRAMES: &str = ", all frames together";

/// The sampler that moves all frames together by solver `S`. It has the options of the solver and
/// those of the noise levels ([`LevelOptions`]), and its state is the solver's.
pub struct Uniform<S> {
    together: Together<Box<dyn Solver>>,
    solver: PhantomData<fn() -> S>,
}

impl<S: NamedSolver> Uniform<S> {
    const TEXT: &'static Joined = &Joined::of(S::DOC, ALL_FRAMES);
}

impl<S: NamedSolver> Sampler for Uniform<S> {
    type Options = OptionValues;
    const ID: &'static str = S::ID;
    const DOC: &'static str = Self::TEXT.text();

    fn options() -> Vec<OptionSpec> {
        let mut specs = S::options();
        specs.extend(LevelOptions::specs());
        specs
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: OptionValues, request: &SampleRequest) -> Result<Self> {
        let descent = Descent::of(Entry::of::<S>(), &options, (request.steps, request.shift))?;
        Ok(Self { together: Together::new(S::ID, descent, request)?, solver: PhantomData })
    }

    fn schedule(&self) -> Result<Schedule> {
        Ok(self.together.schedule())
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.together.step(sample, step, model, ops)
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(S::ID, &mut self.together, id, message)
    }
}
