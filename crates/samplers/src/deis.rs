//! DEIS: the noise prediction as a polynomial in `log rho`, `rho = sigma / alpha`, integrated
//! exactly.
//!
//! In `x / alpha` the flow is `d(x / alpha) = eps d rho`, so with noise predictions `e_i` made at
//! `rho_i` (`e_0` at `s`), and `u = log(rho / rho_s)`:
//!
//! ```text
//! x_t / alpha_t = x_s / alpha_s + sum_i w_i * e_i
//! sum_i w_i * u_i^k = I_k,  I_k = integral of u^k d rho from rho_s to rho_t
//! I_0 = rho_t - rho_s,  I_k = rho_t * u_t^k - k * I_(k - 1)
//! ```
//!
//! Order rises by one each step from 1; in runs of fewer than 15 steps it falls to 1 at the end.
//!
//! Source: Zhang and Chen 2022, "Fast Sampling of Diffusion Models with Exponential Integrator",
//! the variant of polynomials in `log rho`; diffusers 0.42 `DEISMultistepScheduler`, which has the
//! integrals written out. Its flow schedule ends at the last sigma but one, so that its last step
//! does nothing; here it ends at 0, as ComfyUI-WanVideoWrapper makes it do (within 1e-6).

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::vandermonde::weights;
use crate::{Entry, Grid, Memory, NamedSolver, NoiseLevels, SigmaTable, Solver, own_options};

/// Runs with fewer steps lower the order at their end.
const LONG_RUN: usize = 15;

/// DEIS of order 1 to 3.
pub struct Deis {
    table: Arc<SigmaTable>,
    order: usize,
    history: History,
}

/// The options of [`Deis`].
#[derive(Debug, Clone, Deserialize)]
pub struct DeisOptions {
    /// Order, 1 to 3.
    pub order: usize,
}

impl NamedSolver for Deis {
    type Options = DeisOptions;
    const ID: &'static str = "deis";
    const DOC: &'static str = "DEIS multistep";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm).below_pure_noise();

    fn options() -> Vec<OptionSpec> {
        vec![own_options::order()]
    }

    fn new(options: &DeisOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        let order = options.order.max(1);
        Ok(Self { table, order, history: History::new(order - 1) })
    }
}

impl Deis {
    fn order_at(&self, index: usize) -> usize {
        match self.table.steps() {
            steps if steps < LONG_RUN => self.order.min(steps - index),
            _ => self.order,
        }
    }
}

impl Solver for Deis {
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
        let (rho_s, rho_t) = (now.sigma / now.alpha, next.sigma / next.alpha);
        let past = self.history.newest(self.order_at(index) - 1);
        let mut nodes = vec![0.0];
        nodes.extend(past.iter().map(|(rho, _)| (rho / rho_s).ln()));
        let weights = weights(&nodes, moments(rho_s, rho_t, nodes.len()));

        // The newest prediction e_0 = x + alpha * v enters as x and v: near pure noise its weight
        // and that of x are huge and cancel.
        let mut terms = vec![
            term(next.alpha * (1.0 / now.alpha + weights[0]), sample),
            term(next.alpha * weights[0] * now.alpha, velocity),
        ];
        terms.extend(weights[1..].iter().zip(&past).map(|(w, (_, e))| term(next.alpha * w, e)));
        let moved = ops.combine(&terms)?;
        let noise = ops.combine(&[term(1.0, sample), term(now.alpha, velocity)])?;
        self.history.push(rho_s, noise);
        Ok(moved)
    }

    fn save(&self) -> Memory {
        Memory { predictions: self.history.save(), predicted: None }
    }

    fn load(&mut self, mut memory: Memory) -> Result<()> {
        self.history.load(&mut memory, false)
    }
}

/// `I_0 ..` of the formulas above.
fn moments(rho_s: f64, rho_t: f64, count: usize) -> Vec<f64> {
    let mut moments = vec![rho_t - rho_s];
    for k in 1..count {
        // As rho goes to 0, rho * log(rho)^k goes to 0.
        let at_end = if rho_t == 0.0 { 0.0 } else { rho_t * (rho_t / rho_s).ln().powi(k as i32) };
        moments.push(at_end - k as f64 * moments[k - 1]);
    }
    moments
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<Deis>();

#[cfg(test)]
mod tests {
    use super::*;

    /// Simpson's rule over 20 000 intervals.
    #[test]
    fn moments_are_the_integrals_that_they_stand_for() {
        let (from, to) = (3.0f64, 0.4);
        let width = (to - from) / 20_000.0;
        for (k, moment) in moments(from, to, 3).iter().enumerate() {
            let at = |i: i32| ((from + f64::from(i) * width) / from).ln().powi(k as i32);
            let weight = |i| [2.0, 4.0][i as usize % 2];
            let inner: f64 = (1..20_000).map(|i| weight(i) * at(i)).sum();
            let sum = (at(0) + inner + at(20_000)) * width / 3.0;
            assert!((sum - moment).abs() < 1e-9, "I_{k} {moment}, not {sum}");
        }
    }
}
