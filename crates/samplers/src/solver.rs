//! What all solvers share: the trait, the path's coordinates, a multistep method's history.

use std::collections::VecDeque;

use serde::Deserialize;
use wan_plugin_api::{Error, Result, Tensor, TensorOps, term};

use crate::{Heun, Memory, SigmaTable};

/// Carries one sample down one [`SigmaTable`].
///
/// Every operation works frame by frame, so a sample of several frames moves as each would alone.
/// The history is the solver's: one sample, one solver, indices rising by 1 from the first that is
/// taken.
pub trait Solver: Send {
    /// From `sigmas[index]` to `sigmas[index + 1]`, given the velocity `noise - x0` at `sample`.
    ///
    /// A step between equal sigmas returns the sample with its bits.
    ///
    /// # Errors
    /// `Failed` for an index outside the table, and what `ops` says.
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;

    /// The second half of a step of two evaluations ([`SolverKind::evaluations`]): `moved` is what
    /// [`step`](Self::step) returned, and `velocity` the one there, at the level of the step's end.
    /// Where the step has one evaluation, returns `moved`.
    ///
    /// # Errors
    /// What `ops` says.
    fn correct(
        &mut self,
        moved: &Tensor,
        _velocity: &Tensor,
        _ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        Ok(moved.clone())
    }

    /// What later steps need of earlier ones; asked between two steps only.
    fn save(&self) -> Memory {
        Memory::default()
    }

    /// Goes on from what [`save`](Self::save) gave, as a solver of the same table and settings that
    /// has taken no step yet.
    ///
    /// # Errors
    /// `Invalid` for another solver's memory.
    fn load(&mut self, memory: Memory) -> Result<()> {
        memory.check(0, false)
    }
}

/// The solvers, by the names that users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum SolverKind {
    /// [`UniPc`](crate::UniPc).
    #[default]
    #[serde(rename = "unipc")]
    UniPc,
    /// [`DpmMultistep`](crate::DpmMultistep).
    #[serde(rename = "dpm++")]
    DpmPlusPlus,
    /// [`Euler`](crate::Euler).
    #[serde(rename = "euler")]
    Euler,
    /// [`Heun`].
    #[serde(rename = "heun")]
    Heun,
    /// [`EulerAncestral`](crate::EulerAncestral).
    #[serde(rename = "euler-ancestral")]
    EulerAncestral,
    /// [`DpmSde`](crate::DpmSde).
    #[serde(rename = "dpm++-sde")]
    DpmPlusPlusSde,
    /// [`Deis`](crate::Deis).
    #[serde(rename = "deis")]
    Deis,
    /// [`Lcm`](crate::Lcm).
    #[serde(rename = "lcm")]
    Lcm,
    /// [`ResMultistep`](crate::ResMultistep).
    #[serde(rename = "res-multistep")]
    ResMultistep,
    /// [`SaOde`](crate::SaOde).
    #[serde(rename = "sa-ode")]
    SaOde,
}

impl SolverKind {
    /// What a user can choose, in the order of the variants.
    pub const NAMES: [&str; 10] = [
        "unipc",
        "dpm++",
        "euler",
        "heun",
        "euler-ancestral",
        "dpm++-sde",
        "deis",
        "lcm",
        "res-multistep",
        "sa-ode",
    ];

    /// The name that users know it by.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// How often step `index` of `table` asks the model: 1, or 2 where a
    /// [`correct`](Solver::correct) follows the [`step`](Solver::step).
    pub fn evaluations(self, table: &SigmaTable, index: usize) -> u32 {
        match self {
            Self::Heun => Heun::evaluations(table, index),
            _ => 1,
        }
    }
}

/// Form of DPM-Solver++'s second-order update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolverType {
    /// The derivative at the middle of the step.
    #[default]
    Midpoint,
    /// The integral of the linear interpolant, as Heun's method has it.
    Heun,
}

/// A point of the path `x = alpha * x0 + sigma * noise`, `alpha = 1 - sigma`.
///
/// `lambda = ln(alpha / sigma)` is the axis along which the exponential integrators are exact for
/// a constant prediction: minus infinity at pure noise, infinity at the clean end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Level {
    pub(crate) alpha: f64,
    pub(crate) sigma: f64,
    pub(crate) lambda: f64,
}

impl Level {
    pub(crate) fn new(sigma: f64) -> Self {
        let alpha = 1.0 - sigma;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }

    /// Prediction of the clean sample, `x0 = x - sigma * velocity`.
    pub(crate) fn clean(
        self,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        ops.combine(&[term(1.0, sample), term(-self.sigma, velocity)])
    }
}

impl SigmaTable {
    /// Both ends of a step.
    pub(crate) fn step(&self, index: usize) -> Result<(Level, Level)> {
        match self.sigmas.get(index..index + 2) {
            Some(ends) => Ok((Level::new(ends[0]), Level::new(ends[1]))),
            None => Err(Error::failed(format!("step {index} of a table of {}", self.steps()))),
        }
    }
}

/// Predictions (of the clean sample, or of the noise), newest first, each with the place on the
/// solver's axis that it was made at.
pub(crate) struct History {
    predictions: VecDeque<(f64, Tensor)>,
    len_max: usize,
}

impl History {
    /// Keeps the newest `len_max`.
    pub(crate) fn new(len_max: usize) -> Self {
        Self { predictions: VecDeque::with_capacity(len_max + 1), len_max }
    }

    pub(crate) fn push(&mut self, place: f64, prediction: Tensor) {
        self.predictions.push_front((place, prediction));
        self.predictions.truncate(self.len_max);
    }

    /// All of it, for a [`Memory`].
    pub(crate) fn save(&self) -> Vec<(f64, Tensor)> {
        self.predictions.iter().cloned().collect()
    }

    /// Takes the predictions of a memory over; where its solver `corrects`, what it predicted is
    /// left to that.
    pub(crate) fn load(&mut self, memory: &mut Memory, corrects: bool) -> Result<()> {
        memory.check(self.len_max, corrects)?;
        self.predictions = std::mem::take(&mut memory.predictions).into();
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.predictions.len()
    }

    /// The newest `count`, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<(f64, &Tensor)> {
        self.predictions.iter().take(count).map(|(place, made)| (*place, made)).collect()
    }
}
