//! Heun: an Euler step, and the mean of the velocities at both its ends.
//!
//! ```text
//! x_e = x_s + (sigma_t - sigma_s) * v(x_s, s)
//! x_t = x_s + (sigma_t - sigma_s) * (v(x_s, s) + v(x_e, t)) / 2
//! ```
//!
//! A step that ends at sigma 0 is an Euler step, because no model is trained at sigma 0.
//!
//! Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
//! algorithm 1; diffusers 0.42 `FlowMatchHeunDiscreteScheduler`, which agrees.

use std::sync::Arc;

use wan_plugin_api::{Result, Tensor, TensorOps, term};

use crate::{Entry, NamedSolver, NoOptions, SigmaTable, Solver};

/// Second order, two evaluations a step.
pub struct Heun {
    table: Arc<SigmaTable>,
    begun: Option<Begun>,
}

/// A step after its first half.
struct Begun {
    dt: f64,
    sample: Tensor,
    velocity: Tensor,
}

impl NamedSolver for Heun {
    type Options = NoOptions;
    const ID: &'static str = "heun";
    const DOC: &'static str = "Heun, two evaluations a step";

    fn new(_: &NoOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        Ok(Self { table, begun: None })
    }
}

impl Solver for Heun {
    fn evaluations(&self, index: usize) -> u32 {
        match self.table.sigmas[index..] {
            [now, next, ..] if next > 0.0 && next < now => 2,
            _ => 1,
        }
    }

    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (now, next) = self.table.step(index)?;
        let dt = next.sigma - now.sigma;
        if self.evaluations(index) == 2 {
            let (sample, velocity) = (sample.clone(), velocity.clone());
            self.begun = Some(Begun { dt, sample, velocity });
        }
        ops.combine(&[term(1.0, sample), term(dt, velocity)])
    }

    fn correct(
        &mut self,
        _: (usize, u32),
        moved: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let Some(Begun { dt, sample, velocity: first }) = self.begun.take() else {
            return Ok(moved.clone());
        };
        ops.combine(&[term(1.0, &sample), term(dt / 2.0, &first), term(dt / 2.0, velocity)])
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<Heun>();
