//! The traits of all solvers.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps};

use crate::memory::Memory;
use crate::schedule::{Grid, NoiseLevels, SigmaTable};

/// Moves one sample from entry to entry of one [`SigmaTable`].
///
/// Every operation works frame by frame, so each frame of a sample moves as it would alone. A
/// solver owns its history: one solver serves one sample, and `index` rises by 1 from call to call.
pub trait Solver: Send {
    /// Model evaluations of step `index`: 1, or more where [`correct`](Self::correct) follows
    /// [`step`](Self::step). Depends on table and options alone, and is asked before any step.
    fn evaluations(&self, _index: usize) -> u32 {
        1
    }

    /// Timestep and sigma at which evaluation `evaluation`, from 1, of step `index` is made; none:
    /// those at the end of the step. (Evaluation 0 is made at its start.)
    ///
    /// # Errors
    /// `Failed` if there is no such evaluation.
    fn level(&self, _index: usize, _evaluation: u32) -> Result<Option<(f64, f64)>> {
        Ok(None)
    }

    /// Moves `sample` from `sigmas[index]` to `sigmas[index + 1]`, given the velocity `noise - x0`
    /// there; in a step of several evaluations, to where the next one is made.
    ///
    /// A step between equal sigmas has one evaluation, and returns the sample bit for bit.
    ///
    /// # Errors
    /// `Failed` for an index outside the table, and errors of `ops`.
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;

    /// Goes on by evaluation `place.1`, from 1, of step `place.0`: to where the next evaluation is
    /// made, or to the end of the step. `moved` is what the call before returned, `velocity` the
    /// velocity there, at [`level`](Self::level).
    ///
    /// # Errors
    /// Errors of `ops`.
    fn correct(
        &mut self,
        _place: (usize, u32),
        moved: &Tensor,
        _velocity: &Tensor,
        _ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        Ok(moved.clone())
    }

    /// The memory that later steps depend on. Called between two steps only.
    fn save(&self) -> Memory {
        Memory::default()
    }

    /// Loads what [`save`](Self::save) returned into a solver with the same table and settings that
    /// has taken no step.
    ///
    /// # Errors
    /// `Invalid` for the memory of another solver.
    fn load(&mut self, memory: Memory) -> Result<()> {
        memory.check(0, false)
    }
}

impl Solver for Box<dyn Solver> {
    fn evaluations(&self, index: usize) -> u32 {
        (**self).evaluations(index)
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        (**self).level(index, evaluation)
    }

    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        (**self).step(index, sample, velocity, ops)
    }

    fn correct(
        &mut self,
        place: (usize, u32),
        moved: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        (**self).correct(place, moved, velocity, ops)
    }

    fn save(&self) -> Memory {
        (**self).save()
    }

    fn load(&mut self, memory: Memory) -> Result<()> {
        (**self).load(memory)
    }
}

/// A solver that users can name. [`Uniform`](crate::Uniform) makes a sampler of it, and so does
/// `DiffusionForcing` of the crate `wan-diffusion-forcing`.
pub trait NamedSolver: Solver + Sized + 'static {
    /// The struct that the values of its own options deserialise into.
    type Options: DeserializeOwned;
    /// Name in `--sampler NAME`, as of a [`Sampler`](wan_plugin_api::Sampler).
    const ID: &'static str;
    /// What it is, in a few words.
    const DOC: &'static str;
    /// Its noise levels, where the user does not ask for others.
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::FlowMatchEuler);

    /// Its own options; those of the noise levels ([`LevelOptions`](crate::LevelOptions)) are
    /// common to all solvers.
    fn options() -> Vec<OptionSpec> {
        Vec::new()
    }

    /// Its own options where frames move at different times, as in diffusion forcing:
    /// [`options`](Self::options), and what has a meaning there alone.
    fn options_in_forcing() -> Vec<OptionSpec> {
        Self::options()
    }

    /// Makes a solver at the start of `table`, for a sample whose first frame is `first_frame` of
    /// the video. (The number of a frame determines the noise of stochastic solvers.)
    ///
    /// # Errors
    /// `Invalid` for options that do not fit each other, with what to change.
    fn new(options: &Self::Options, table: Arc<SigmaTable>, first_frame: u32) -> Result<Self>;
}

/// The options of a solver that has none of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct NoOptions {}
