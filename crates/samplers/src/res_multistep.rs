//! RES, second-order multistep: an exponential integrator on the axis `t = -log sigma`.
//!
//! There the flow is `dx/dt = m - x`, `m` the prediction of the clean sample. With `h = t_t - t_s`,
//! `phi_1 = (1 - e^(-h)) / h`, `phi_2 = (1 - phi_1) / h`, `c = (t_1 - t_0) / h` (negative):
//!
//! ```text
//! x_t = e^(-h) * x_s + h * ((phi_1 - phi_2 / c) * m0 + phi_2 / c * m1)
//! ```
//!
//! The first step, and the one that ends at sigma 0, are Euler's, which is the formula without
//! `m1`. Unlike `lambda = log(alpha / sigma)`, this axis has no singularity at pure noise.
//!
//! Source: Zhang et al. 2023 (arXiv 2308.02157), "Improved Order Analysis and Design of Exponential
//! Integrator for Diffusion Models Sampling"; ComfyUI (commit 02159d8,
//! `comfy/k_diffusion/sampling.py`, `res_multistep` with `eta` 0), and ComfyUI-WanVideoWrapper
//! after it (`flowmatch_res_multistep.py`).

use std::sync::Arc;

use wan_plugin_api::{Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::{Entry, Grid, Memory, NamedSolver, NoOptions, NoiseLevels, SigmaTable, Solver};

/// Second order, deterministic.
pub struct ResMultistep {
    table: Arc<SigmaTable>,
    history: History,
}

impl NamedSolver for ResMultistep {
    type Options = NoOptions;
    const ID: &'static str = "res-multistep";
    const DOC: &'static str = "RES second-order multistep";
    // The last level of flow-match Euler is so close to 0 that RES, in a short run, would
    // extrapolate over ten times the step before.
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm);

    fn new(_: &NoOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        Ok(Self { table, history: History::new(2) })
    }
}

impl Solver for ResMultistep {
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (now, next) = self.table.step(index)?;
        if now == next {
            return Ok(sample.clone());
        }
        self.history.push(-now.sigma.ln(), now.clean(sample, velocity, ops)?);
        let [(t0, m0), (t1, m1)] = self.history.newest(2)[..] else {
            return ops.combine(&[term(1.0, sample), term(next.sigma - now.sigma, velocity)]);
        };
        if next.sigma == 0.0 {
            return Ok(m0.clone());
        }
        let h = -next.sigma.ln() - t0;
        let c = (t1 - t0) / h;
        let phi_1 = -(-h).exp_m1() / h;
        let phi_2 = (1.0 - phi_1) / h;
        let of_m1 = h * phi_2 / c;
        ops.combine(&[
            term(next.sigma / now.sigma, sample),
            term(h * phi_1 - of_m1, m0),
            term(of_m1, m1),
        ])
    }

    fn save(&self) -> Memory {
        Memory { predictions: self.history.save(), predicted: None }
    }

    fn load(&mut self, mut memory: Memory) -> Result<()> {
        self.history.load(&mut memory, false)
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<ResMultistep>();
