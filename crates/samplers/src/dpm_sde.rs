//! DPM-Solver++ 2M SDE: the multistep solver of the reverse SDE, data prediction.
//!
//! With `h = lambda_t - lambda_s`, `g = (1 + eta) * h`, predictions `m0, m1` of the clean sample
//! (newest first), `D = (m0 - m1) * h / (lambda_0 - lambda_1)`:
//!
//! ```text
//! order 1   x_t = sigma_t / sigma_s * e^(-eta * h) * x_s + alpha_t * (1 - e^(-g)) * m0
//!                 + sigma_t * sqrt(1 - e^(-2 * eta * h)) * noise
//! order 2   ... + alpha_t * (1 - e^(-g)) / 2 * D                    midpoint
//!           ... + alpha_t * (1 - (1 - e^(-g)) / g) * D              heun
//! ```
//!
//! `eta` 1 is the SDE that diffusion models reverse; `eta` 0 is the flow, and this is then the
//! deterministic DPM-Solver++ 2M. Order 1 in the first step and in the last.
//!
//! Source: Lu et al. 2022, "DPM-Solver++", section 6 and appendix; k-diffusion
//! `sample_dpmpp_2m_sde` for `eta`; diffusers 0.42 `DPMSolverMultistepScheduler`
//! (`sde-dpmsolver++`), which agrees at `eta` 1.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{Error, OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::noise::FrameNoise;
use crate::{
    Entry, Grid, Memory, NamedSolver, NoiseLevels, SigmaTable, Solver, SolverType, own_options,
};

/// Order 1 or 2, stochastic.
pub struct DpmSde {
    table: Arc<SigmaTable>,
    order: usize,
    solver_type: SolverType,
    eta: f64,
    noise: FrameNoise,
    history: History,
}

/// The options of [`DpmSde`].
#[derive(Debug, Clone, Deserialize)]
pub struct DpmSdeOptions {
    /// Order, 1 or 2.
    pub order: usize,
    /// Form of the second-order update.
    pub solver_type: SolverType,
    /// Share of the noise that a step renews: 0 none, as in the flow; 1 as in the SDE.
    pub eta: f64,
}

impl NamedSolver for DpmSde {
    type Options = DpmSdeOptions;
    const ID: &'static str = "dpm++-sde";
    const DOC: &'static str = "DPM-Solver++ 2M SDE";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm);

    fn options() -> Vec<OptionSpec> {
        vec![own_options::order(), own_options::solver_type(), own_options::eta()]
    }

    fn new(options: &DpmSdeOptions, table: Arc<SigmaTable>, first_frame: u32) -> Result<Self> {
        let DpmSdeOptions { order, solver_type, eta } = *options;
        if order > 2 {
            return Err(Error::invalid(own_options::no_such_order(Self::ID, order)));
        }
        let (noise, history) = (FrameNoise::new(first_frame), History::new(order));
        Ok(Self { table, order, solver_type, eta, noise, history })
    }
}

impl Solver for DpmSde {
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
        let h = next.lambda - now.lambda;
        // h is infinite from pure noise and to sigma 0; at eta 0 the product must be 0, not NaN.
        let eta_h = if self.eta == 0.0 { 0.0 } else { self.eta * h };
        let of_m0 = -next.alpha * (-h - eta_h).exp_m1();
        let of_d = match self.solver_type {
            SolverType::Midpoint => of_m0 / 2.0,
            SolverType::Heun => next.alpha - of_m0 / (h + eta_h),
        };
        let of_noise = next.sigma * (-(-2.0 * eta_h).exp_m1()).sqrt();

        let order = if next.sigma == 0.0 { 1 } else { self.order };
        let noise = if of_noise > 0.0 { Some(self.noise.draw(index, sample, ops)?) } else { None };
        let mut terms = vec![term(next.sigma / now.sigma * (-eta_h).exp(), sample)];
        match self.history.newest(order)[..] {
            [(l0, m0), (l1, m1), ..] => {
                let slope = of_d * h / (l0 - l1);
                terms.extend([term(of_m0 + slope, m0), term(-slope, m1)]);
            }
            [(_, m0)] => terms.push(term(of_m0, m0)),
            [] => {}
        }
        terms.extend(noise.iter().map(|noise| term(of_noise, noise)));
        ops.combine(&terms)
    }

    fn save(&self) -> Memory {
        Memory { predictions: self.history.save(), predicted: None }
    }

    fn load(&mut self, mut memory: Memory) -> Result<()> {
        self.history.load(&mut memory, false)
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<DpmSde>();
