//! TeaCache: reuses the residual of the blocks while the time signal has changed little.
//!
//! ```text
//! change  = sum |s_i - s_anchor| / sum |s_anchor|      over the frames in scope
//! sum    += P(change)                                  reuse while sum < threshold
//! compute: keep the residual, sum = 0
//! ```
//!
//! Source: arXiv 2411.19108; ali-vilab/TeaCache at 7c10efc (`anchor = previous`);
//! kijai/ComfyUI-WanVideoWrapper at a623f87 (`anchor = computed`). [`Preset`] follows each of them.
//!
//! By default only updated frames count ([`Scope`](crate::Scope)), and negative values of the
//! polynomial count as 0, so that the sum never shrinks. Several published polynomials are negative
//! for small changes, which lets a reference reuse without end.

mod bf16;
mod options;
mod polynomial;
mod preset;
mod rule;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Bits, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Evaluation, Message, OptionSpec,
    Place, Replaces, Result, Tensor, TensorOps,
};

use crate::accumulator::{Accumulator, rescale};
use crate::change::relative_change;
use crate::half_memory::Halved;
use crate::held::{Held, fits, keep};
use crate::limits::Limits;
use preset::Rounding;

pub use options::TeaCacheOptions;
pub use preset::Preset;
pub use rule::{Anchor, Mode, Negative};

/// TeaCache.
pub struct TeaCache {
    options: TeaCacheOptions,
    coefficients: Vec<f64>,
    plan: CachePlan,
    place: Place,
    limits: Limits,
    accumulator: Accumulator,
    anchor: Option<Tensor>,
    residual: Option<Tensor>,
}

impl Cache for TeaCache {
    type Options = TeaCacheOptions;
    const ID: &'static str = "teacache";
    const DOC: &'static str =
        "reuses the residual while the time signal has changed little; compare before you trust it";

    fn options() -> Vec<OptionSpec> {
        TeaCacheOptions::specs()
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: TeaCacheOptions, context: &CacheContext) -> Result<Self> {
        let coefficients = polynomial::coefficients(&options, context)?;
        let preset = options.preset;
        let options = options.settled()?;
        let limits = Limits::new(options.limits).with_period(preset.period(context)?);
        let plan = CachePlan {
            decides: DecisionPoint::BeforeBlocks,
            reads: vec![options.mode.signal()],
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: true,
            bytes_max: 0,
            measures: ["rel_l1", "rescaled", "before", "after"].map(String::from).to_vec(),
            rule: options.rule(limits.protects()),
        };
        Ok(Self {
            plan: held(&options).declare(plan, context),
            coefficients,
            place: context.keep,
            limits,
            accumulator: Accumulator::default(),
            anchor: None,
            residual: None,
            options,
        })
    }

    fn plan(&self) -> CachePlan {
        self.plan.clone()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        if self.options.threshold == 0.0 {
            return Ok(Decision::compute_and_forget());
        }
        let signal = evaluation.signal(self.options.mode.signal())?;
        let change = self.change(evaluation, signal, ops)?;
        let rescaled = change.map(|c| self.rescaled(c));
        let counted = rescaled.filter(|r| r.is_finite() && !self.limits.protect(evaluation));
        let below = counted.is_some_and(|rescaled| self.add(rescaled));
        let before = if counted.is_some() { self.accumulator.sum() } else { 0.0 };
        let reuse = below && !self.limits.exhausted();
        let residual = self.residual.clone().filter(|r| reuse && fits(r, evaluation.computes));
        if residual.is_none() || self.options.anchor == Anchor::Previous {
            self.anchor = Some(keep(signal, self.place, ops)?);
        }
        let decision = match residual {
            Some(residual) => Decision::reuse(residual),
            None => {
                self.accumulator.reset();
                // Dropped before the new one is made, so that one residual at a time is held.
                self.residual = None;
                match evaluation.remaining {
                    0 => Decision::compute_and_forget(),
                    _ => Decision::compute(),
                }
            }
        };
        self.limits.count(decision.choice());
        let (change, rescaled) = (change.unwrap_or(0.0), rescaled.unwrap_or(0.0));
        Ok(decision.measured(vec![change, rescaled, before, self.accumulator.sum()]))
    }

    fn store(&mut self, residual: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.residual = Some(residual.clone());
        Ok(())
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(Self::ID, self, id, message)
    }
}

impl State for TeaCache {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.limits.put(&mut saved)?;
        saved.put("sum", Bits(self.accumulator.sum()))?;
        saved.put_tensors("anchor", &self.anchor);
        saved.put_tensors("residual", &self.residual);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.limits.take(saved)?;
        self.accumulator = Accumulator::of_sum(saved.take::<Bits>("sum")?.0);
        self.anchor = saved.take_tensor("anchor")?;
        self.residual = saved.take_tensor("residual")?;
        Ok(())
    }
}

impl TeaCache {
    /// Relative change of the signal; `None` at the first evaluation, after a change of shape, or
    /// where it is undefined.
    fn change(
        &self,
        evaluation: &Evaluation<'_>,
        signal: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Option<f64>> {
        let Some(anchor) = self.anchor.as_ref().filter(|a| fits(a, signal.form())) else {
            return Ok(None);
        };
        if self.options.preset.rounding() == Rounding::Bf16 {
            return bf16::relative_change(signal, anchor, ops);
        }
        relative_change(signal, anchor, &self.options.scope.counts(evaluation.levels), ops)
    }

    fn rescaled(&self, change: f64) -> f64 {
        let rescaled = rescale(&self.coefficients, change);
        match self.options.negative {
            Negative::Clamp => rescaled.max(0.0),
            Negative::Reference => rescaled,
        }
    }

    /// Accumulates a rescaled change; whether the sum is below the threshold.
    fn add(&mut self, rescaled: f64) -> bool {
        match self.options.preset.rounding() {
            Rounding::None => self.accumulator.add(rescaled, self.options.threshold),
            Rounding::SumF32 | Rounding::Bf16 => {
                self.accumulator.add_f32(rescaled, self.options.threshold)
            }
        }
    }
}

fn held(options: &TeaCacheOptions) -> Held {
    let count = u64::from(options.threshold > 0.0);
    Held { signals: count, computed: count }
}

impl Halved for TeaCache {
    const HALF_ID: &'static str = "teacache-half";
    const HALF_DOC: &'static str = "teacache with what it keeps at half width";

    fn held(&self) -> Held {
        held(&self.options)
    }
}

#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod tests;
