//! DPM-Solver++ 3M SDE: the multistep solver of the reverse SDE with three predictions.
//!
//! With `h = lambda_t - lambda_s`, `g = (1 + eta) * h`, predictions `m0, m1, m2` of the clean sample
//! (newest first), `r0 = (lambda_0 - lambda_1) / h`, `r1 = (lambda_1 - lambda_2) / h`:
//!
//! ```text
//! order 1   x_t = sigma_t / sigma_s * e^(-eta * h) * x_s + alpha_t * (1 - e^(-g)) * m0
//!                 + sigma_t * sqrt(1 - e^(-2 * eta * h)) * noise
//! order 2   ... + alpha_t * phi_2 * (m0 - m1) / r0
//! order 3   ... + alpha_t * phi_2 * D1 - alpha_t * phi_3 * D2
//!           D1 = (m0 - m1) / r0 + r0 * D2,  D2 = ((m0 - m1) / r0 - (m1 - m2) / r1) / (r0 + r1)
//! phi_2 = 1 - (1 - e^(-g)) / g,  phi_3 = phi_2 / g - 1/2
//! ```
//!
//! Order rises by one each step from 1; a step that ends at sigma 0 ends at `m0`. `eta` 1 is the SDE
//! that diffusion models reverse. With `eta` 0 it is the third-order form of `dpm++`, whose `D2` has
//! half of the factor that order 3 needs.
//!
//! Source: k-diffusion `sample_dpmpp_3m_sde` (Katherine Crowson), there in `x / alpha` and
//! `sigma / alpha`.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::noise::FrameNoise;
use crate::{Entry, Grid, Memory, NamedSolver, NoiseLevels, SigmaTable, Solver, own_options};

/// Order 1 to 3, stochastic.
pub struct Dpm3mSde {
    table: Arc<SigmaTable>,
    eta: f64,
    noise: FrameNoise,
    history: History,
}

/// The options of [`Dpm3mSde`].
#[derive(Debug, Clone, Deserialize)]
pub struct Dpm3mSdeOptions {
    /// Share of the noise that a step renews: 0 none, as in the flow; 1 as in the SDE.
    pub eta: f64,
}

impl NamedSolver for Dpm3mSde {
    type Options = Dpm3mSdeOptions;
    const ID: &'static str = "dpm++-3m-sde";
    const DOC: &'static str = "DPM-Solver++ 3M SDE";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm);

    fn options() -> Vec<OptionSpec> {
        vec![own_options::eta()]
    }

    fn new(options: &Dpm3mSdeOptions, table: Arc<SigmaTable>, first_frame: u32) -> Result<Self> {
        let (noise, history) = (FrameNoise::new(first_frame), History::new(3));
        Ok(Self { table, eta: options.eta, noise, history })
    }
}

impl Solver for Dpm3mSde {
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
        let clean = now.clean(sample, velocity, ops)?;
        self.history.push(now.lambda, clean.clone());
        if next.sigma == 0.0 {
            return Ok(clean);
        }
        let h = next.lambda - now.lambda;
        // h is infinite from pure noise; at eta 0 the product must be 0, not NaN.
        let eta_h = if self.eta == 0.0 { 0.0 } else { self.eta * h };
        let of_noise = next.sigma * (-(-2.0 * eta_h).exp_m1()).sqrt();
        let noise = if of_noise > 0.0 { Some(self.noise.draw(index, sample, ops)?) } else { None };

        let predictions = self.history.newest(3);
        let lambdas: Vec<f64> = predictions.iter().map(|(lambda, _)| *lambda).collect();
        let factors = factors(&lambdas, h, h + eta_h);
        let mut terms = vec![term(next.sigma / now.sigma * (-eta_h).exp(), sample)];
        let made = predictions.iter().map(|(_, made)| *made);
        terms.extend(factors.iter().zip(made).map(|(f, made)| term(next.alpha * f, made)));
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

/// Factors of `m0, m1, ..`, which were made at `lambdas`, in the formulas above, without `alpha_t`.
/// A prediction made at pure noise, where lambda is minus infinity, gets 0.
fn factors(lambdas: &[f64], h: f64, g: f64) -> Vec<f64> {
    let of_m0 = -(-g).exp_m1();
    let phi_2 = 1.0 - of_m0 / g;
    let phi_3 = phi_2 / g - 0.5;
    match *lambdas {
        [l0, l1] => {
            let slope = phi_2 * h / (l0 - l1);
            vec![of_m0 + slope, -slope]
        }
        [l0, l1, l2] => {
            let (r0, r1) = ((l0 - l1) / h, (l1 - l2) / h);
            let of_difference = (phi_2 * r0 - phi_3) / (r0 + r1);
            let (newer, older) = ((phi_2 + of_difference) / r0, -of_difference / r1);
            vec![of_m0 + newer, older - newer, -older]
        }
        _ => vec![of_m0],
    }
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<Dpm3mSde>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;

    #[test]
    fn factors_sum_to_that_of_a_constant_prediction() {
        let lambdas = [0.6, 0.7, 0.9].map(|sigma| Level::new(sigma).lambda);
        for order in 1..=3 {
            let sum: f64 = factors(&lambdas[..order], 0.8, 1.4).iter().sum();
            let one = -(-1.4f64).exp_m1();
            assert!((sum - one).abs() < 1e-14, "order {order}: {sum}, not {one}");
        }
    }

    #[test]
    fn a_prediction_made_at_pure_noise_drops_out() {
        let lambdas = [0.6, 0.8, 1.0].map(|sigma| Level::new(sigma).lambda);
        let (three, two) = (factors(&lambdas, 0.8, 1.4), factors(&lambdas[..2], 0.8, 1.4));
        assert_eq!(three[2], 0.0);
        assert!((three[0] - two[0]).abs() < 1e-14 && (three[1] - two[1]).abs() < 1e-14);
        assert_eq!(factors(&lambdas[1..], 0.8, 1.4)[1], 0.0);
    }
}
