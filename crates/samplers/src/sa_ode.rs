//! SA-ODE: the deterministic SA-Solver, Adams predictor and corrector on the axis `lambda`.
//!
//! With `h = lambda_t - lambda_s`, predictions `m_i` of the clean sample at `lambda_i`, and
//! `u_i = lambda_i - lambda_s`:
//!
//! ```text
//! x_t = sigma_t / sigma_s * x_s + alpha_t * sum_i w_i * m_i
//! sum_i w_i * u_i^k = J_k,  J_k = integral of e^(u - h) * u^k du from 0 to h
//! J_0 = 1 - e^(-h),  J_k = h^k - k * J_(k - 1)
//! ```
//!
//! The *predictor* (Adams-Bashforth) has the past predictions as `m_i`. The *corrector*
//! (Adams-Moulton) repeats the step that led to the present sample, the prediction made there in
//! the place of the oldest. Order rises by one each step from 1 (the corrector's from 2) and falls
//! at the end.
//!
//! Source: Xue et al. 2023 (arXiv 2309.05019), "SA-Solver: Stochastic Adams Solver for Fast
//! Sampling of Diffusion Models", with tau 0; diffusers 0.42 `SASolverScheduler`, which agrees with
//! [`SaWeights::Authors`].
//! ComfyUI-WanVideoWrapper's `sa_ode_stable` has the name from here but another formula (Adams with
//! the weights of equal steps, shortened steps at the end): `docs/samplers.md`.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::level::Level;
use crate::vandermonde::weights;
use crate::{
    Entry, Grid, Memory, NamedSolver, NoiseLevels, Predicted, SigmaTable, Solver, own_options,
};

/// How an update with two predictions weighs their difference.
///
/// The authors' code, and diffusers after it, uses `h^2 / 2` for `J_1`, which differs by a term of
/// third order. This is negligible where `h` is small. From pure noise, where the first `h` of a
/// short run is 4 and more, it makes the first correction several times too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaWeights {
    /// By `J_1`, as in the paper.
    #[default]
    Exact,
    /// By `h^2 / 2`.
    Authors,
}

/// Deterministic SA-Solver of order 1 to 3.
pub struct SaOde {
    table: Arc<SigmaTable>,
    order: usize,
    weights: SaWeights,
    history: History,
    /// Its order is that of the next correction.
    predicted: Option<Predicted>,
}

/// The options of [`SaOde`].
#[derive(Debug, Clone, Deserialize)]
pub struct SaOdeOptions {
    /// Order, 1 to 3.
    pub order: usize,
    /// Weights of two predictions.
    pub sa_weights: SaWeights,
}

impl NamedSolver for SaOde {
    type Options = SaOdeOptions;
    const ID: &'static str = "sa-ode";
    const DOC: &'static str = "deterministic SA-Solver";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::Dpm).below_pure_noise();

    fn options() -> Vec<OptionSpec> {
        let doc = "sa-ode's weights of two predictions: as in the paper, or as in its authors' code";
        let weights = OptionSpec::choice("sa_weights", &["exact", "authors"], doc);
        vec![own_options::order(), weights]
    }

    fn new(options: &SaOdeOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        let SaOdeOptions { order, sa_weights: weights } = *options;
        Ok(Self { table, order, weights, history: History::new(order), predicted: None })
    }
}

impl Solver for SaOde {
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
        let corrected = match &self.predicted {
            None => sample.clone(),
            Some(Predicted { sigma, sample, order }) => {
                self.update([Level::new(*sigma), now], sample, &self.history.newest(*order), ops)?
            }
        };
        let left = self.table.steps() - index;
        let predictions = self.history.newest(self.order.min(left));
        let moved = self.update([now, next], &corrected, &predictions, ops)?;
        let order = self.order.min(left + 1);
        self.predicted = Some(Predicted { sigma: now.sigma, sample: corrected, order });
        Ok(moved)
    }

    fn save(&self) -> Memory {
        Memory { predictions: self.history.save(), predicted: self.predicted.clone() }
    }

    fn load(&mut self, mut memory: Memory) -> Result<()> {
        self.history.load(&mut memory, true)?;
        self.predicted = memory.predicted;
        Ok(())
    }
}

impl SaOde {
    /// The formula above.
    fn update(
        &self,
        [from, to]: [Level; 2],
        sample: &Tensor,
        predictions: &[(f64, &Tensor)],
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let h = to.lambda - from.lambda;
        let nodes: Vec<f64> = predictions.iter().map(|(lambda, _)| lambda - from.lambda).collect();
        let mut moments = moments(h, nodes.len());
        if let ([_, first], SaWeights::Authors) = (&mut moments[..], self.weights) {
            *first = h * h / 2.0;
        }
        let weights = weights(&nodes, moments);
        let mut terms = vec![term(to.sigma / from.sigma, sample)];
        terms.extend(weights.iter().zip(predictions).map(|(w, (_, m))| term(to.alpha * w, m)));
        ops.combine(&terms)
    }
}

/// `J_0 ..` of the formulas above.
fn moments(h: f64, count: usize) -> Vec<f64> {
    let mut moments = vec![-(-h).exp_m1()];
    for k in 1..count {
        moments.push(h.powi(k as i32) - k as f64 * moments[k - 1]);
    }
    moments
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<SaOde>();
