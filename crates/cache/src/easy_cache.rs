//! EasyCache: reuses output minus input while the output is predicted to have changed little.
//!
//! ```text
//! k    = mean |v - v_computed| / mean |x - x_computed|      at each computed evaluation
//! sum += k * mean |x - x_previous| / mean |v_computed|      reuse while sum < threshold
//! compute: keep v - x, sum = 0
//! ```
//!
//! `x` is the model's input (the latents) and `v` its output; `computed` is the last computed
//! evaluation, `previous` the one before this. The branch `cond` decides for all branches. Any
//! other branch keeps only its `v - x`, and computes where it has no leader.
//!
//! Source: "Less is Enough: Training-Free Video Diffusion Acceleration via Runtime-Adaptive
//! Caching" (arXiv 2507.02860); H-EmbodVis/EasyCache at 5127804,
//! `EasyCache4Wan2.1/easycache_generate.py`. Its means are over the whole tensor, which is
//! `scope = all-frames`, and the same number where every frame is updated. `v` is not kept: it is
//! `x_computed` plus the kept difference.

use serde::Deserialize;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Bits, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Choice, Decision, DecisionPoint, Evaluation, Gate, Message,
    OptionSpec, Place, Protects, Replaces, Result, Rule, Signal, Tensor, TensorOps, term,
};

use crate::half_memory::Halved;
use crate::held::{Held, fits, keep};
use crate::limits::{LimitOptions, Limits};
use crate::scope::{Scope, total};

/// Options of [`EasyCache`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EasyCacheOptions {
    /// Reuse while the sum of predicted relative changes is below this; 0 switches the cache off.
    pub threshold: f64,
    /// Latent frames that count in the means.
    pub scope: Scope,
    /// Which evaluations always compute.
    #[serde(flatten)]
    pub limits: LimitOptions,
}

impl Default for EasyCacheOptions {
    fn default() -> Self {
        let limits = LimitOptions { retention: 10, last: 1, max_skips: 0 };
        Self { threshold: 0.05, scope: Scope::UpdatedFrames, limits }
    }
}

/// The branch that decides for all.
const LEADER: &str = "cond";

/// EasyCache.
pub struct EasyCache {
    options: EasyCacheOptions,
    plan: CachePlan,
    place: Place,
    limits: Limits,
    sum: f64,
    /// Change of the output per change of the input.
    k: Option<f64>,
    /// Input of the previous evaluation.
    previous: Option<Tensor>,
    /// Input of the last computed evaluation.
    computed: Option<Tensor>,
    /// Whether `previous` and `computed` are one tensor: the last evaluation was computed.
    computed_is_previous: bool,
    /// Output minus input of the last computed evaluation.
    delta: Option<Tensor>,
    /// `sum |v|` per frame at the last computed evaluation.
    output_sums: Vec<f64>,
    /// Whether each frame counts in the evaluation under way.
    counts: Vec<bool>,
    /// Whether this is the branch that decides.
    leads: bool,
}

impl Cache for EasyCache {
    type Options = EasyCacheOptions;
    const ID: &'static str = "easycache";
    const DOC: &'static str = "reuses the output's change while the latents have changed little; compare before you trust it";

    fn options() -> Vec<OptionSpec> {
        let default = EasyCacheOptions::default();
        let threshold = OptionSpec::float(
            "threshold",
            default.threshold,
            (0.0, 100.0),
            "reuse below this sum of predicted relative changes",
        );
        [vec![threshold, Scope::spec()], default.limits.specs()].concat()
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: EasyCacheOptions, context: &CacheContext) -> Result<Self> {
        let limits = Limits::new(options.limits);
        let plan = CachePlan {
            decides: DecisionPoint::BeforeEmbed,
            reads: vec![Signal::Sample],
            replaces: Replaces::OutputDelta,
            shared_decision: true,
            schedule_only: false,
            bytes_max: 0,
            measures: ["change", "k", "predicted", "sum"].map(String::from).to_vec(),
            rule: options.rule(limits.protects()),
        };
        let leads = context.branch == LEADER;
        Ok(Self {
            plan: options.held(leads).declare(plan, context),
            place: context.keep,
            limits,
            sum: 0.0,
            k: None,
            previous: None,
            computed: None,
            computed_is_previous: false,
            delta: None,
            output_sums: Vec::new(),
            counts: Vec::new(),
            leads,
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
        self.forget_another_shape(evaluation);
        let (reuse, numbers) = if self.leads {
            self.lead(evaluation, ops)?
        } else {
            (evaluation.leader == Some(Choice::Reuse), vec![0.0; 4])
        };
        let decision = match self.delta.clone().filter(|_| reuse) {
            Some(delta) => Decision::reuse(delta),
            None => {
                self.sum = 0.0;
                match evaluation.remaining {
                    0 => Decision::compute_and_forget(),
                    _ => Decision::compute(),
                }
            }
        };
        // The leader needs the old difference for k; a follower does not.
        if !self.leads && decision.choice() == Choice::Compute {
            self.delta = None;
        }
        self.limits.count(decision.choice());
        Ok(decision.measured(numbers))
    }

    fn store(&mut self, delta: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        if let Some(now) = &self.previous {
            self.k = self.output_per_input(now, delta, ops)?;
            let output = ops.combine(&[term(1.0, now), term(1.0, delta)])?;
            self.output_sums = ops.frame_abs_sums(&output)?;
            self.computed = self.previous.clone();
            self.computed_is_previous = true;
        }
        self.delta = Some(delta.clone());
        Ok(())
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(Self::ID, self, id, message)
    }
}

impl State for EasyCache {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.limits.put(&mut saved)?;
        saved.put("sum", Bits(self.sum))?;
        saved.put("k", self.k.map(Bits))?;
        saved.put("output_sums", Bits::all(&self.output_sums))?;
        saved.put("computed_is_previous", self.computed_is_previous)?;
        saved.put_tensors("previous", &self.previous);
        // One tensor saved under two names would be two tensors after a load.
        saved.put_tensors("computed", self.computed.iter().filter(|_| !self.computed_is_previous));
        saved.put_tensors("delta", &self.delta);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.limits.take(saved)?;
        self.sum = saved.take::<Bits>("sum")?.0;
        self.k = saved.take::<Option<Bits>>("k")?.map(|bits| bits.0);
        self.output_sums = Bits::floats(&saved.take::<Vec<Bits>>("output_sums")?);
        self.computed_is_previous = saved.take("computed_is_previous")?;
        self.previous = saved.take_tensor("previous")?;
        self.computed = if self.computed_is_previous {
            self.previous.clone()
        } else {
            saved.take_tensor("computed")?
        };
        self.delta = saved.take_tensor("delta")?;
        Ok(())
    }
}

impl EasyCache {
    /// Whether to reuse, and the measured numbers. Keeps the input as `previous`.
    fn lead(
        &mut self,
        evaluation: &Evaluation<'_>,
        ops: &dyn TensorOps,
    ) -> Result<(bool, Vec<f64>)> {
        let sample = evaluation.signal(Signal::Sample)?;
        self.counts = self.options.scope.counts(evaluation.levels);
        let change = match &self.previous {
            Some(previous) => Some(total(&ops.frame_abs_diffs(sample, previous)?, &self.counts)),
            None => None,
        };
        self.previous = Some(keep(sample, self.place, ops)?);
        self.computed_is_previous = false;
        let output = total(&self.output_sums, &self.counts);
        let is_zero = total(&ops.frame_abs_sums(sample)?, &self.counts) == 0.0;
        let relative = change.map(|change| change / output).filter(|r| r.is_finite() && !is_zero);
        let predicted = relative.zip(self.k).map(|(r, k)| k * r).filter(|p| p.is_finite());
        self.sum += predicted.unwrap_or(0.0);
        let reuse = predicted.is_some()
            && self.sum < self.options.threshold
            && !self.limits.protect(evaluation)
            && !self.limits.exhausted();
        let numbers = [relative, self.k, predicted].map(|n| n.unwrap_or(0.0));
        Ok((reuse, [numbers.as_slice(), &[self.sum]].concat()))
    }

    /// `k` after an evaluation with input `now` and output `now + delta`; `None` where undefined.
    fn output_per_input(
        &self,
        now: &Tensor,
        delta: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Option<f64>> {
        let (Some(before), Some(old)) = (&self.computed, &self.delta) else { return Ok(None) };
        let output_change =
            ops.combine(&[term(1.0, now), term(1.0, delta), term(-1.0, before), term(-1.0, old)])?;
        let output = total(&ops.frame_abs_sums(&output_change)?, &self.counts);
        let input = total(&ops.frame_abs_diffs(now, before)?, &self.counts);
        let k = output / input;
        Ok(k.is_finite().then_some(k))
    }

    /// Drops everything that was kept for a sample of another shape.
    fn forget_another_shape(&mut self, evaluation: &Evaluation<'_>) {
        let needed = evaluation.computes;
        let kept = [&self.previous, &self.computed, &self.delta];
        if kept.into_iter().flatten().any(|tensor| !fits(tensor, needed)) {
            (self.previous, self.computed, self.delta) = (None, None, None);
            self.computed_is_previous = false;
            self.output_sums.clear();
            self.k = None;
            self.sum = 0.0;
        }
    }
}

impl EasyCacheOptions {
    fn rule(&self, protects: Protects) -> Rule {
        Rule {
            all_frames: self.scope == Scope::AllFrames,
            gate: Some(Gate {
                measure: "sum".into(),
                step: Some("predicted".into()),
                below: self.threshold,
            }),
            protects: Some(protects),
            ..Rule::default()
        }
    }

    fn held(&self, leads: bool) -> Held {
        if self.threshold > 0.0 {
            Held { signals: if leads { 2 } else { 0 }, computed: 1 }
        } else {
            Held::default()
        }
    }
}

impl Halved for EasyCache {
    const HALF_ID: &'static str = "easycache-half";
    const HALF_DOC: &'static str = "easycache with what it keeps at half width";

    fn held(&self) -> Held {
        self.options.held(self.leads)
    }
}

#[cfg(test)]
mod tests;
