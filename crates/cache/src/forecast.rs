//! Forecast: extrapolates computed tensors along the noise level, and measures the error of the
//! extrapolation during the run.
//!
//! ```text
//! forecast   r(sigma) = sum_j w_j(sigma) r_j           Lagrange, per frame, see `extrapolation`
//! computed   e = sum |r(sigma_i) - r_i| / sum |r_i|    over the updated frames, before r_i is kept
//! later      sum += e * (gap / measured gap)^(order + 1)
//! reuse      while sum < threshold;   compute: sum = 0
//! ```
//!
//! `r` is the model's output minus its input (`of = output`) or the residual of the blocks (`of =
//! residual`). On the demo model both work equally well, and the first is only as large as the
//! latents: 8.4 MB instead of 671 MB for 14B at 832x480 with 81 frames.
//!
//! `gap` is the mean distance in sigma of the updated frames from the last computed `r`. The error
//! of an extrapolation of order p grows like `gap^(p + 1)`, so one measurement predicts the error
//! at other gaps without a table or a calibration run. With fewer computed tensors than the order
//! needs, the order is lower, down to 0 (the last tensor itself); the measurement keeps the order
//! it was made at.
//!
//! `retention` counts the updates of each frame separately, so that a block that begins late is
//! protected like the first one.
//!
//! Source: the forecast of the final residual with a blend between zeroth and first order follows
//! the idea of ScalingCache (ICLR 2026, which fits its blend offline) and of TaylorSeer
//! (arXiv 2503.06923, which keeps every module's output); measuring the error along the way is
//! our own.

mod correction;
mod extrapolation;
mod history;

use serde::Deserialize;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Bits, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Choice, Decision, DecisionPoint, Error, Evaluation, FrameLevel,
    Gate, Message, OptionSpec, Protects, Replaces, Result, Rule, Tensor, TensorOps,
};

use crate::half_memory::Halved;
use crate::held::Held;
use crate::limits::{Beginnings, LimitOptions, Limits};
use history::{History, Measured};

/// Options of [`Forecast`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ForecastOptions {
    /// Reuse while the sum of predicted errors is below this; 0 switches the cache off.
    pub threshold: f64,
    /// Which tensor is forecast.
    pub of: Forecasted,
    /// Whether the next reuse corrects the latents for the error of the last ones
    /// (`correction`). Only with `of = output`.
    pub give_back: bool,
    /// Order of the extrapolation, 1 or 2.
    pub order: u32,
    /// Weight of the extrapolation against the last computed tensor, 0 to 1.
    pub blend: f64,
    /// Compute every n-th evaluation, whatever the error; 0: the error decides.
    pub interval: u32,
    /// Numbers (from 0) of the evaluations that compute; all others reuse. Empty: `interval` or the
    /// error decides.
    pub computes: Vec<f64>,
    /// Which evaluations always compute.
    #[serde(flatten)]
    pub limits: LimitOptions,
}

/// The tensor that is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forecasted {
    /// The model's output minus its input, `[1, C, F, H, W]`; a reuse skips the whole model.
    Output,
    /// The residual of the blocks, `[1, L, D]`; embedding and head still run.
    Residual,
}

impl Default for ForecastOptions {
    fn default() -> Self {
        let limits = LimitOptions { retention: 6, last: 1, max_skips: 3 };
        Self {
            threshold: 0.1,
            of: Forecasted::Output,
            give_back: false,
            order: 1,
            blend: 0.9,
            interval: 0,
            computes: Vec::new(),
            limits,
        }
    }
}

impl ForecastOptions {
    /// Whether these options never reuse.
    fn is_off(&self) -> bool {
        self.threshold == 0.0 || self.interval == 1
    }

    /// Whether the decisions depend on the number of the evaluation alone.
    fn is_fixed(&self) -> bool {
        self.interval > 0 || !self.computes.is_empty()
    }

    /// # Errors
    /// `Invalid` for options that exclude each other, and for a list with a number that is not a
    /// whole one from 0.
    fn check(&self) -> Result<()> {
        if self.give_back && self.of != Forecasted::Output {
            return Err(Error::invalid(
                "give_back: latents are led back through the output alone; set of = output",
            ));
        }
        if self.interval > 0 && !self.computes.is_empty() {
            return Err(Error::invalid(
                "interval and computes both say which evaluations compute; give one of them",
            ));
        }
        match self.computes.iter().find(|index| index.fract() != 0.0 || **index < 0.0) {
            Some(index) => Err(Error::invalid(format!(
                "computes: {index} is not the number of an evaluation; give whole numbers from 0"
            ))),
            None => Ok(()),
        }
    }

    /// With a list of evaluations, nothing else is protected.
    fn rule(&self, protects: Protects) -> Rule {
        let nothing = Protects { first: 0, last: 0, reuses_max: 0 };
        Rule {
            forecasts: true,
            gate: (!self.is_fixed()).then(|| Gate {
                measure: "sum".into(),
                step: Some("predicted".into()),
                below: self.threshold,
            }),
            protects: Some(if self.computes.is_empty() { protects } else { nothing }),
            ..Rule::default()
        }
    }

    fn held(&self) -> Held {
        let points = u64::from(self.order) + 1 + u64::from(self.give_back);
        let computed = if self.is_off() { 0 } else { points };
        Held { signals: 0, computed }
    }
}

/// The forecast cache.
pub struct Forecast {
    options: ForecastOptions,
    plan: CachePlan,
    limits: Limits,
    beginnings: Beginnings,
    history: History,
    measured: Option<Measured>,
    sum: f64,
    /// Levels of the evaluation under way.
    levels: Vec<FrameLevel>,
    /// Whether another branch decides.
    follows: bool,
}

impl Cache for Forecast {
    type Options = ForecastOptions;
    const ID: &'static str = "forecast";
    const DOC: &'static str = "extrapolates the output while its own measured error allows";

    fn options() -> Vec<OptionSpec> {
        let default = ForecastOptions::default();
        let own = vec![
            OptionSpec::float(
                "threshold",
                default.threshold,
                (0.0, 100.0),
                "reuse below this sum of predicted relative errors",
            ),
            OptionSpec::choice(
                "of",
                &["output", "residual"],
                "what is forecast: the model's output, or the residual of its blocks",
            ),
            OptionSpec::bool(
                "give_back",
                default.give_back,
                "correct at the next reuse what the last ones led astray; for output and euler",
            ),
            OptionSpec::int("order", default.order.into(), (1, 2), "order of the extrapolation"),
            OptionSpec::float(
                "blend",
                default.blend,
                (0.0, 1.0),
                "1: the extrapolation; 0: the last residual; between: both",
            ),
            OptionSpec::int(
                "interval",
                default.interval.into(),
                (0, 1000),
                "compute every n-th evaluation, whatever the error; 0: by the error",
            ),
            OptionSpec::float_list(
                "computes",
                "evaluations that compute, by number from 0, and no others; empty: by the error",
            ),
        ];
        [own, default.limits.specs()].concat()
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: ForecastOptions, context: &CacheContext) -> Result<Self> {
        options.check()?;
        let limits = Limits::new(options.limits);
        let (decides, replaces) = match options.of {
            Forecasted::Output => (DecisionPoint::BeforeEmbed, Replaces::OutputDelta),
            Forecasted::Residual => (DecisionPoint::BeforeBlocks, Replaces::Residual),
        };
        let plan = CachePlan {
            decides,
            reads: Vec::new(),
            replaces,
            shared_decision: true,
            schedule_only: options.is_fixed(),
            bytes_max: 0,
            measures: ["predicted", "sum", "measured", "order"].map(String::from).to_vec(),
            rule: options.rule(limits.protects()),
        };
        Ok(Self {
            plan: options.held().declare(plan, context),
            limits,
            beginnings: Beginnings::default(),
            history: History::new(options.order as usize, options.blend, options.give_back),
            measured: None,
            sum: 0.0,
            levels: Vec::new(),
            follows: false,
            options,
        })
    }

    fn plan(&self) -> CachePlan {
        self.plan.clone()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        if self.options.is_off() {
            return Ok(Decision::compute_and_forget());
        }
        self.follows = evaluation.leader.is_some();
        self.history.keep_only(evaluation.computes, evaluation.levels.len());
        let predicted = self.predicted(evaluation.levels);
        self.sum += predicted.unwrap_or(0.0);
        let order = self.history.order();
        let numbers = vec![
            predicted.unwrap_or(0.0),
            self.sum,
            self.measured.map_or(0.0, |m| m.error),
            order as f64,
        ];
        let reuse = !self.history.is_empty()
            && match evaluation.leader {
                Some(leader) => leader == Choice::Reuse,
                None => self.allows(evaluation, predicted),
            };
        let decision = if reuse {
            let forecast = self.history.forecast(evaluation.levels, ops)?;
            self.history.reused(evaluation.levels);
            Decision::reuse(forecast)
        } else {
            self.sum = 0.0;
            self.levels = evaluation.levels.to_vec();
            match evaluation.remaining {
                0 => Decision::compute_and_forget(),
                _ => Decision::compute(),
            }
        };
        self.limits.count(decision.choice());
        self.beginnings.count(evaluation.levels);
        Ok(decision.measured(numbers))
    }

    fn store(&mut self, residual: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        let levels = std::mem::take(&mut self.levels);
        if !ops.frame_abs_sums(residual)?.iter().all(|sum| sum.is_finite()) {
            // Nothing is extrapolated from NaN or infinity: start with an empty history.
            self.history.clear();
            self.measured = None;
            return Ok(());
        }
        let measures = !self.options.is_fixed() && !self.follows;
        self.measured = if measures { self.history.measure(residual, &levels, ops)? } else { None };
        self.history.push(residual, &levels);
        Ok(())
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(Self::ID, self, id, message)
    }
}

impl State for Forecast {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.limits.put(&mut saved)?;
        self.beginnings.put(&mut saved)?;
        self.history.put(&mut saved)?;
        saved.put("sum", Bits(self.sum))?;
        saved.put("measured", self.measured.map(Measured::written))?;
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.limits.take(saved)?;
        self.beginnings.take(saved)?;
        self.history.take(saved)?;
        self.sum = saved.take::<Bits>("sum")?.0;
        self.measured = saved.take::<Option<_>>("measured")?.map(Measured::of_written);
        Ok(())
    }
}

impl Forecast {
    /// Predicted relative error of a forecast at `levels`; `None` before the first measurement.
    fn predicted(&self, levels: &[FrameLevel]) -> Option<f64> {
        let measured = self.measured?;
        let growth = self.history.gap(levels)? / measured.gap;
        let predicted = measured.error * growth.powi(measured.order as i32 + 1);
        predicted.is_finite().then_some(predicted)
    }

    fn allows(&self, evaluation: &Evaluation<'_>, predicted: Option<f64>) -> bool {
        let computes = &self.options.computes;
        if !computes.is_empty() {
            return !computes.contains(&f64::from(evaluation.index));
        }
        let begins = self.beginnings.any(evaluation.levels, self.options.limits.retention);
        if begins || self.limits.protect(evaluation) || self.limits.exhausted() {
            return false;
        }
        match self.options.interval {
            0 => predicted.is_some() && self.sum < self.options.threshold,
            every => self.limits.skipped_in_a_row() + 1 < every,
        }
    }
}

impl Halved for Forecast {
    const HALF_ID: &'static str = "forecast-half";
    const HALF_DOC: &'static str = "forecast with the residuals at half width";

    fn held(&self) -> Held {
        self.options.held()
    }
}

#[cfg(test)]
mod tests;
