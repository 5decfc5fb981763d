//! First-block cache: always runs the first block, and reuses the residual of the other blocks
//! while the first block's residual has changed little.
//!
//! ```text
//! change = sum |p - p_computed| / sum |p_computed|     p: residual of block 0, frames in scope
//! reuse while change < threshold;   compute: keep p and the residual of the other blocks
//! ```
//!
//! Source: chengzeyi/ParaAttention, `first_block_cache`; diffusers at 58eb52c,
//! `hooks/first_block_cache.py` (threshold 0.05). The change is not accumulated: it is the distance
//! from the last computed evaluation.

use serde::Deserialize;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Evaluation, Gate, Message, OptionSpec,
    Place, Replaces, Result, Rule, Signal, Tensor, TensorOps,
};

use crate::change::relative_change;
use crate::half_memory::Halved;
use crate::held::{Held, fits, keep};
use crate::limits::{LimitOptions, Limits};
use crate::scope::Scope;

/// Options of [`FirstBlockCache`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FirstBlockOptions {
    /// Reuse while the first block's residual has changed less than this; 0 switches the cache off.
    pub threshold: f64,
    /// Latent frames that count in the change.
    pub scope: Scope,
    /// Which evaluations always compute.
    #[serde(flatten)]
    pub limits: LimitOptions,
}

impl Default for FirstBlockOptions {
    fn default() -> Self {
        let limits = LimitOptions { retention: 1, last: 1, max_skips: 3 };
        Self { threshold: 0.05, scope: Scope::UpdatedFrames, limits }
    }
}

/// First-block cache.
pub struct FirstBlockCache {
    options: FirstBlockOptions,
    plan: CachePlan,
    place: Place,
    limits: Limits,
    probe: Option<Tensor>,
    residual: Option<Tensor>,
}

impl Cache for FirstBlockCache {
    type Options = FirstBlockOptions;
    const ID: &'static str = "first-block";
    const DOC: &'static str =
        "runs the first block to see whether the others must run; compare before you trust it";

    fn options() -> Vec<OptionSpec> {
        let default = FirstBlockOptions::default();
        let threshold = OptionSpec::float(
            "threshold",
            default.threshold,
            (0.0, 100.0),
            "reuse below this relative change of the first block's residual",
        );
        [vec![threshold, Scope::spec()], default.limits.specs()].concat()
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: FirstBlockOptions, context: &CacheContext) -> Result<Self> {
        let limits = Limits::new(options.limits);
        let plan = CachePlan {
            decides: DecisionPoint::AfterBlock(0),
            reads: vec![Signal::Probe],
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: false,
            bytes_max: 0,
            measures: vec!["change".into()],
            rule: Rule {
                all_frames: options.scope == Scope::AllFrames,
                gate: Some(Gate { measure: "change".into(), step: None, below: options.threshold }),
                protects: Some(limits.protects()),
                ..Rule::default()
            },
        };
        Ok(Self {
            plan: options.held().declare(plan, context),
            place: context.keep,
            limits,
            probe: None,
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
        let probe = evaluation.signal(Signal::Probe)?;
        let change = self.change(evaluation, probe, ops)?;
        let reuse = change.is_some_and(|change| change < self.options.threshold)
            && !self.limits.protect(evaluation)
            && !self.limits.exhausted();
        let residual = self.residual.clone().filter(|r| reuse && fits(r, evaluation.computes));
        let decision = match (residual, evaluation.remaining) {
            (Some(residual), _) => Decision::reuse(residual),
            (None, 0) => {
                (self.probe, self.residual) = (None, None);
                Decision::compute_and_forget()
            }
            (None, _) => {
                // Dropped before the new pair is made, so that one pair at a time is held.
                (self.probe, self.residual) = (None, None);
                self.probe = Some(keep(probe, self.place, ops)?);
                Decision::compute()
            }
        };
        self.limits.count(decision.choice());
        Ok(decision.measured(vec![change.unwrap_or(0.0)]))
    }

    fn store(&mut self, residual: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.residual = Some(residual.clone());
        Ok(())
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(Self::ID, self, id, message)
    }
}

impl State for FirstBlockCache {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.limits.put(&mut saved)?;
        saved.put_tensors("probe", &self.probe);
        saved.put_tensors("residual", &self.residual);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.limits.take(saved)?;
        self.probe = saved.take_tensor("probe")?;
        self.residual = saved.take_tensor("residual")?;
        Ok(())
    }
}

impl FirstBlockCache {
    /// Relative change of the probe; `None` at the first evaluation, after a change of shape, or
    /// where it is undefined.
    fn change(
        &self,
        evaluation: &Evaluation<'_>,
        probe: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Option<f64>> {
        let Some(computed) = self.probe.as_ref().filter(|p| fits(p, probe.form())) else {
            return Ok(None);
        };
        relative_change(probe, computed, &self.options.scope.counts(evaluation.levels), ops)
    }
}

impl FirstBlockOptions {
    fn held(&self) -> Held {
        let count = u64::from(self.threshold > 0.0);
        Held { signals: count, computed: count }
    }
}

impl Halved for FirstBlockCache {
    const HALF_ID: &'static str = "first-block-half";
    const HALF_DOC: &'static str = "first-block with what it keeps at half width";

    fn held(&self) -> Held {
        self.options.held()
    }
}

#[cfg(test)]
mod tests;
