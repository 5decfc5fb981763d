//! Euler-ancestral for flows: an Euler step below the next level, then fresh noise up to that
//! level.
//!
//! ```text
//! sigma_d = sigma_t * (1 + (sigma_t / sigma_s - 1) * eta)
//! x_d = x_s + (sigma_d - sigma_s) * v
//! x_t = a * x_d + sqrt(sigma_t^2 - a^2 * sigma_d^2) * noise,  a = alpha_t / alpha_d
//! ```
//!
//! `a` scales the clean part of `x_d` to its share at `t`, and the noise restores the variance.
//! With `eta` 0 this is an Euler step.
//!
//! Source: ancestral sampling as in k-diffusion (`sample_euler_ancestral`), in the form that
//! ComfyUI gives it for rectified flow (commit 02159d8, `comfy/k_diffusion/sampling.py`,
//! `sample_euler_ancestral_RF`); diffusers 0.42 `LTXEulerAncestralRFScheduler`, which agrees.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::noise::FrameNoise;
use crate::{Entry, NamedSolver, SigmaTable, Solver, own_options};

/// First order, stochastic.
pub struct EulerAncestral {
    table: Arc<SigmaTable>,
    eta: f64,
    noise: FrameNoise,
}

/// The options of [`EulerAncestral`].
#[derive(Debug, Clone, Deserialize)]
pub struct EulerAncestralOptions {
    /// Share of the noise that a step renews: 0 none, as in the flow; 1 as in the SDE.
    pub eta: f64,
}

impl NamedSolver for EulerAncestral {
    type Options = EulerAncestralOptions;
    const ID: &'static str = "euler-ancestral";
    const DOC: &'static str = "Euler with fresh noise in every step";

    fn options() -> Vec<OptionSpec> {
        vec![own_options::eta()]
    }

    fn new(options: &EulerAncestralOptions, table: Arc<SigmaTable>, first: u32) -> Result<Self> {
        Ok(Self { table, eta: options.eta, noise: FrameNoise::new(first) })
    }
}

impl Solver for EulerAncestral {
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
        let down = next.sigma * (1.0 + (next.sigma / now.sigma - 1.0) * self.eta);
        let a = next.alpha / (1.0 - down);
        let variance = next.sigma.powi(2) - (a * down).powi(2);
        let mut terms = vec![term(a, sample), term(a * (down - now.sigma), velocity)];
        if variance <= 0.0 {
            return ops.combine(&terms);
        }
        let noise = self.noise.draw(index, sample, ops)?;
        terms.push(term(variance.sqrt(), &noise));
        ops.combine(&terms)
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<EulerAncestral>();
