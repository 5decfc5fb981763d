//! UniPC: a predictor and a corrector of one form (Zhao et al. 2023, "UniPC: A Unified
//! Predictor-Corrector Framework for Fast Sampling of Diffusion Models"), data prediction,
//! `B(h) = e^h - 1` (the paper's `B2`, the schedulers' `bh2`).
//!
//! With `h = lambda_t - lambda_s`, `phi = e^(-h) - 1` and predictions `m_i` of the clean sample at
//! `lambda_i`, `m_0` the one at `s`:
//!
//! ```text
//! x_t = sigma_t / sigma_s * x_s - alpha_t * phi * (m_0 + sum_i rho_i * (m_i - m_0) / r_i)
//! r_i = (lambda_i - lambda_s) / h
//! sum_i rho_i * r_i^(k - 1) = b_k,  k = 1 ..        rho = 1/2 where there is one i
//! ```
//!
//! The *predictor* has the past predictions as `m_i`. The *corrector* repeats the step that led to
//! the present sample with the prediction made there as one more `m_i`, of `r = 1`. The model is
//! not asked again at the corrected sample. Order rises by one each step from 1 and falls to 1 at
//! the end; corrections keep the order of the prediction that they correct.
//!
//! Source of these choices: Wan2.1 (commit 9737cba) `fm_solvers_unipc.py` and diffusers 0.42
//! `UniPCMultistepScheduler`, which agree.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, Result, Tensor, TensorOps, term};

use crate::history::History;
use crate::level::Level;
use crate::vandermonde::weights;
use crate::{
    Entry, Grid, Memory, NamedSolver, NoiseLevels, Predicted, SigmaTable, Solver, own_options,
};

/// The sample that the first correction uses as the start of the first step.
///
/// SkyReels-V2 (abed76f) and diffusers 0.42 keep one scheduler per latent frame and write a stepped
/// frame back into the latents in place. The scheduler's `last_sample` is a view of that very frame
/// after the first step (later ones are tensors of their own), so it then holds the new sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstCorrection {
    /// The sample before the step, as in UniPC.
    #[default]
    Exact,
    /// The sample after the step, as in those two implementations of diffusion forcing.
    Overwritten,
}

/// UniPC of order 1 to 3.
pub struct UniPc {
    table: Arc<SigmaTable>,
    order: usize,
    first_correction: FirstCorrection,
    history: History,
    /// Its order is that of the prediction.
    predicted: Option<Predicted>,
}

/// The options of [`UniPc`].
#[derive(Debug, Clone, Deserialize)]
pub struct UniPcOptions {
    /// Order, 1 to 3.
    pub order: usize,
    /// Start of the first correction.
    #[serde(default)]
    pub first_correction: FirstCorrection,
}

impl NamedSolver for UniPc {
    type Options = UniPcOptions;
    const ID: &'static str = "unipc";
    const DOC: &'static str = "UniPC, predictor and corrector";
    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::UniPc).below_pure_noise();

    fn options() -> Vec<OptionSpec> {
        vec![own_options::order()]
    }

    fn options_in_forcing() -> Vec<OptionSpec> {
        let doc = "unipc's first correction: from the true sample, or as the references do";
        let words = ["exact", "overwritten"];
        vec![own_options::order(), OptionSpec::choice("first_correction", &words, doc)]
    }

    fn new(options: &UniPcOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        let UniPcOptions { order, first_correction } = *options;
        Ok(Self { table, order, first_correction, history: History::new(order), predicted: None })
    }
}

impl Solver for UniPc {
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
        let corrected = match &self.predicted {
            None => sample.clone(),
            Some(predicted) => {
                let mut predictions = self.history.newest(predicted.order);
                predictions.push((now.lambda, &clean));
                update(Level::new(predicted.sigma), now, &predicted.sample, &predictions, ops)?
            }
        };
        self.history.push(now.lambda, clean);
        let order = self.order.min(self.table.steps() - index).min(self.history.len());
        let moved = update(now, next, &corrected, &self.history.newest(order), ops)?;
        let is_first = self.predicted.is_none();
        let overwritten = is_first && self.first_correction == FirstCorrection::Overwritten;
        let sample = if overwritten { moved.clone() } else { corrected };
        self.predicted = Some(Predicted { sigma: now.sigma, sample, order });
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

/// The formula above; `predictions[0]` is `m_0`.
fn update(
    from: Level,
    to: Level,
    sample: &Tensor,
    predictions: &[(f64, &Tensor)],
    ops: &dyn TensorOps,
) -> Result<Tensor> {
    let h = to.lambda - from.lambda;
    let scale = -to.alpha * (-h).exp_m1();
    let (first, others) = (predictions[0].1, &predictions[1..]);
    let r: Vec<f64> = others.iter().map(|(lambda, _)| (lambda - from.lambda) / h).collect();
    let shares: Vec<f64> = rho(h, &r).iter().zip(&r).map(|(rho, r)| rho / r).collect();

    let mut terms = vec![term(to.sigma / from.sigma, sample)];
    terms.push(term(scale * (1.0 - shares.iter().sum::<f64>()), first));
    terms.extend(shares.iter().zip(others).map(|(w, (_, clean))| term(scale * w, clean)));
    ops.combine(&terms)
}

/// Solves `sum_i rho_i * r_i^(k - 1) = b_k`, `b_k = k! * g_k / phi`, with `g_0 = phi` and
/// `g_k = g_(k - 1) / (-h) - 1 / k!`. For one unknown both references take 1/2, the limit of `b_1`.
fn rho(h: f64, r: &[f64]) -> Vec<f64> {
    if r.len() < 2 {
        return vec![0.5; r.len()];
    }
    let phi = (-h).exp_m1();
    let (mut g, mut factorial) = (phi, 1.0);
    let right = (1..=r.len()).map(|k| {
        factorial *= k as f64;
        g = g / -h - 1.0 / factorial;
        factorial * g / phi
    });
    weights(r, right.collect())
}

/// In the list of all solvers.
pub(crate) const ENTRY: Entry = Entry::of::<UniPc>();

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms for two unknowns, worked out by hand from the paper's equation for B(h).
    #[test]
    fn two_weights_have_their_closed_form() {
        let (h, r) = (0.3f64, -1.2);
        let phi = (-h).exp_m1();
        let g1 = phi / -h - 1.0;
        let g2 = g1 / -h - 0.5;
        let (b1, b2) = (g1 / phi, 2.0 * g2 / phi);
        let first = (b1 - b2) / (1.0 - r);
        let ours = rho(h, &[r, 1.0]);
        assert!((ours[0] - first).abs() < 1e-12 && (ours[1] - (b1 - first)).abs() < 1e-12);
    }
}
