//! First-order Euler: `x_t = x_s + (sigma_t - sigma_s) * v`.
//!
//! Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models",
//! algorithm 1 without the correction; diffusers' `FlowMatchEulerDiscreteScheduler`.

use std::sync::Arc;

use wan_plugin_api::{Result, Tensor, TensorOps, term};

use crate::{Entry, NamedSolver, NoOptions, SigmaTable, Solver};

/// First-order Euler.
pub struct Euler {
    table: Arc<SigmaTable>,
}

impl NamedSolver for Euler {
    type Options = NoOptions;
    const ID: &'static str = "euler";
    const DOC: &'static str = "first-order Euler";

    fn new(_: &NoOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        Ok(Self { table })
    }
}

impl Solver for Euler {
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (now, next) = self.table.step(index)?;
        ops.combine(&[term(1.0, sample), term(next.sigma - now.sigma, velocity)])
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<Euler>();
