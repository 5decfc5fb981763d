//! DPM-Solver++, multistep, deterministic (Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided
//! Sampling of Diffusion Probabilistic Models", algorithm 2 and its third-order form).
//!
//! With `h = lambda_t - lambda_s`, `phi = e^(-h) - 1`, predictions `m0, m1, m2` of the clean sample
//! (newest first), `r0 = (lambda_0 - lambda_1) / h`, `r1 = (lambda_1 - lambda_2) / h`:
//!
//! ```text
//! order 1   x_t = sigma_t / sigma_s * x_s - alpha_t * phi * m0
//! order 2   ... - alpha_t * phi / 2 * D1                            midpoint
//!           ... + alpha_t * (phi / h + 1) * D1                      heun
//!           D1 = (m0 - m1) / r0
//! order 3   ... + alpha_t * (phi / h + 1) * D1 - alpha_t * ((phi + h) / h^2 - 1/2) * D2
//!           D1 = (m0 - m1) / r0 + r0 * D2,  D2 = ((m0 - m1) / r0 - (m1 - m2) / r1) / (r0 + r1)
//! ```
//!
//! The integral of the quadratic through three predictions has twice that `D2` term. The authors'
//! code and the schedulers derived from it have it as above, so order 3 converges no faster than
//! order 2.
//!
//! Order rises by one each step from 1. The last step, which ends at sigma 0, is of order 1; in
//! runs of fewer than 15 steps the one before it is of order 2 at most.
//!
//! Source of these choices: Wan2.1 (commit 9737cba) `fm_solvers.py` and diffusers 0.42
//! `DPMSolverMultistepScheduler` (`dpmsolver++`, final sigma zero), which agree.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::level::Level;
use crate::{
    Entry, Grid, Memory, NamedSolver, NoiseLevels, SigmaTable, Solver, SolverType, own_options,
};

/// Runs with fewer steps use order 2 before the last step.
const LONG_RUN: usize = 15;

/// DPM-Solver++ of order 1 to 3.
pub struct DpmMultistep {
    table: Arc<SigmaTable>,
    order: usize,
    solver_type: SolverType,
    history: History,
}

/// The options of [`DpmMultistep`].
#[derive(Debug, Clone, Deserialize)]
pub struct DpmMultistepOptions {
    /// Order, 1 to 3.
    pub order: usize,
    /// Form of the second-order update.
    pub solver_type: SolverType,
}

impl NamedSolver for DpmMultistep {
    type Options = DpmMultistepOptions;
    const ID: &'static str = "dpm++";
    const DOC: &'static str = "DPM-Solver++ multistep";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm);

    fn options() -> Vec<OptionSpec> {
        vec![own_options::order(), own_options::solver_type()]
    }

    fn new(options: &DpmMultistepOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        let DpmMultistepOptions { order, solver_type } = *options;
        Ok(Self { table, order, solver_type, history: History::new(order) })
    }
}

impl DpmMultistep {
    fn order_at(&self, index: usize) -> usize {
        let steps = self.table.steps();
        let limit = match steps - index {
            1 => 1,
            2 if steps < LONG_RUN => 2,
            _ => self.order,
        };
        limit.min(self.order).min(self.history.len())
    }
}

impl Solver for DpmMultistep {
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
        self.history.push(now.lambda, now.clean(sample, velocity, ops)?);
        let predictions = self.history.newest(self.order_at(index));
        let lambdas: Vec<f64> = predictions.iter().map(|(lambda, _)| *lambda).collect();
        let factors = factors(next, &lambdas, self.solver_type);

        let mut terms = vec![term(next.sigma / now.sigma, sample)];
        terms.extend(factors.iter().zip(&predictions).map(|(f, (_, clean))| term(*f, clean)));
        ops.combine(&terms)
    }

    fn save(&self) -> Memory {
        Memory { predictions: self.history.save(), predicted: None }
    }

    fn load(&mut self, mut memory: Memory) -> Result<()> {
        self.history.load(&mut memory, false)
    }
}

/// Factors of `m0, m1, ..`, which were made at `lambdas`, in the formulas above.
fn factors(to: Level, lambdas: &[f64], solver_type: SolverType) -> Vec<f64> {
    let h = to.lambda - lambdas[0];
    let phi = (-h).exp_m1();
    let of_d0 = -to.alpha * phi;
    let of_d1 = match (lambdas.len(), solver_type) {
        (2, SolverType::Midpoint) => of_d0 / 2.0,
        _ => to.alpha * (phi / h + 1.0),
    };
    // A run that starts at sigma 1 has lambda = -inf there: the ratio is infinite and the
    // prediction gets weight 0, as in the references.
    match *lambdas {
        [l0, l1] => {
            let slope = h / (l0 - l1);
            vec![of_d0 + of_d1 * slope, -of_d1 * slope]
        }
        [l0, l1, l2] => {
            let (r0, r1) = ((l0 - l1) / h, (l1 - l2) / h);
            let of_d2 = -to.alpha * ((phi + h) / (h * h) - 0.5);
            // D1 = D1_0 + r0 * D2 and D2 = (D1_0 - D1_1) / (r0 + r1), D1_i = (m_i - m_i+1) / r_i.
            let of_difference = (of_d1 * r0 + of_d2) / (r0 + r1);
            let (of_d1_0, of_d1_1) = ((of_d1 + of_difference) / r0, -of_difference / r1);
            vec![of_d0 + of_d1_0, of_d1_1 - of_d1_0, -of_d1_1]
        }
        _ => vec![of_d0],
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<DpmMultistep>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_sum_to_those_of_a_constant_prediction() {
        let to = Level::new(0.4);
        let lambdas = [0.9, 0.7, 0.6].map(|sigma| Level::new(sigma).lambda);
        let lambdas = [lambdas[2], lambdas[1], lambdas[0]];
        for order in 1..=3 {
            for solver_type in [SolverType::Midpoint, SolverType::Heun] {
                let sum: f64 = factors(to, &lambdas[..order], solver_type).iter().sum();
                let one = -to.alpha * (lambdas[0] - to.lambda).exp_m1();
                assert!((sum - one).abs() < 1e-14, "order {order}: {sum}, not {one}");
            }
        }
    }

    #[test]
    fn a_prediction_made_at_pure_noise_drops_out() {
        let to = Level::new(0.5);
        let lambdas = [0.6, 0.8, 1.0].map(|sigma| Level::new(sigma).lambda);
        let three = factors(to, &lambdas, SolverType::Heun);
        let two = factors(to, &lambdas[..2], SolverType::Heun);
        assert_eq!(three[2], 0.0);
        assert!((three[0] - two[0]).abs() < 1e-14 && (three[1] - two[1]).abs() < 1e-14);
        let second = factors(to, &lambdas[1..], SolverType::Midpoint);
        assert_eq!(second[1], 0.0);
    }
}
