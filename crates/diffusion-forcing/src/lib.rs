//! Diffusion forcing: every latent frame has its own noise level (Chen et al. 2024, "Diffusion
//! Forcing: Next-token Prediction Meets Full-Sequence Diffusion"), as SkyReels-V2 samples with it
//! (Chen et al. 2025, commit abed76f).
//!
//! Frames are sampled in blocks. With `ar_step` 0 all blocks move together; otherwise each block
//! follows its left neighbour by `ar_step` steps. Clean frames at the start (an image, or the end
//! of an earlier video) are context at timestep 0.
//!
//! With `overlap_history`, a video of more than `base_num_frames` is sampled in chunks, each
//! starting with the last frames of the one before. Without it, a window of `base_num_frames`
//! slides along the video. The host sees rounds in both cases; of a video in chunks, those of one
//! chunk at a time, so that nothing grows with its length.
//!
//! [`DiffusionForcing`] is the sampler, over any solver: one of an author's, or, with
//! [`AnyBuiltIn`], whichever built-in one the user chooses. This is a whole library:
//!
//! ```ignore
//! struct MySolver { .. }                          // impl Solver, impl NamedSolver
//! wan_plugin_api::export_plugin! { samplers: [DiffusionForcing<MySolver>], caches: [] }
//! ```
//!
//! `matrix.rs` computes which block is at which step in which round. `chunks.rs` divides a long
//! video, `rounds.rs` says which round is which row of which chunk, `check.rs` refuses options that
//! cannot work, `counted.rs` has the noise levels of a frame, `context.rs` the frames that the
//! model sees in place of finished ones, `forcing.rs` the sampler over solvers without their type,
//! `state.rs` its saved state.

mod check;
mod chunk;
mod chunks;
mod context;
mod counted;
mod forcing;
mod matrix;
mod options;
mod rounds;
mod state;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::{
    Denoise, Message, OptionSpec, OptionValues, Result, SampleRequest, Sampler, Schedule, Step,
    Tensor, TensorOps, state as saved_state,
};
use wan_samplers::{Descent, Entry, Joined, LevelOptions, NamedSolver, SolverOptions};

use forcing::Forcing;

/// The sampler that has every latent frame at its own noise level, and moves it by a solver of `S`.
pub struct DiffusionForcing<S> {
    forcing: Forcing,
    solvers: PhantomData<fn() -> S>,
}

/// The solvers of a [`DiffusionForcing`]: a [`NamedSolver`], or [`AnyBuiltIn`].
pub trait Solvers: 'static {
    /// Name in `--sampler NAME`.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;

    /// The options of solver and noise levels.
    fn options() -> Vec<OptionSpec>;

    /// The solver that these values choose, and its noise levels.
    ///
    /// # Errors
    /// `Invalid` for options that cannot be followed.
    fn descent(values: &OptionValues, request: &SampleRequest) -> Result<Descent>;
}

/// Texts of the sampler of a solver.
struct Texts<S>(PhantomData<S>);

impl<S: NamedSolver> Texts<S> {
    const ID: &'static Joined = &Joined::of("diffusion-forcing-", S::ID);
    const DOC: &'static Joined = &Joined::of(S::DOC, ", every latent frame at its own noise level");
}

impl<S: NamedSolver> Solvers for S {
    const ID: &'static str = Texts::<S>::ID.text();
    const DOC: &'static str = Texts::<S>::DOC.text();

    fn options() -> Vec<OptionSpec> {
        let mut specs = S::options_in_forcing();
        specs.extend(LevelOptions::specs());
        specs
    }

    fn descent(values: &OptionValues, request: &SampleRequest) -> Result<Descent> {
        Descent::of(Entry::of::<S>(), values, (request.steps, request.shift))
    }
}

/// The solver that the user chooses among the built-in ones, by the option `solver`.
pub struct AnyBuiltIn;

impl Solvers for AnyBuiltIn {
    const ID: &'static str = "diffusion-forcing";
    const DOC: &'static str = "every latent frame at its own noise level (SkyReels-V2)";

    fn options() -> Vec<OptionSpec> {
        SolverOptions::specs()
    }

    fn descent(values: &OptionValues, request: &SampleRequest) -> Result<Descent> {
        SolverOptions::read(values)?.descent(request.steps, request.shift)
    }
}

impl<S: Solvers> Sampler for DiffusionForcing<S> {
    type Options = OptionValues;
    const ID: &'static str = S::ID;
    const DOC: &'static str = S::DOC;

    fn options() -> Vec<OptionSpec> {
        let mut specs = options::Options::specs();
        specs.extend(S::options());
        specs
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(values: OptionValues, request: &SampleRequest) -> Result<Self> {
        let descent = S::descent(&values, request)?;
        let forcing = Forcing::new(&options::Options::read(S::ID, values)?, descent, request)?;
        Ok(Self { forcing, solvers: PhantomData })
    }

    fn schedule(&self) -> Result<Schedule> {
        self.forcing.schedule()
    }

    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        self.forcing.schedule_from(round)
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.forcing.step(sample, step, model, ops)
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        saved_state::answer(S::ID, &mut self.forcing, id, message)
    }
}
