//! TeaCache: reuses the block stack's residual while the time signal has changed little.
//!
//! ```text
//! change  = sum |s_i - s_anchor| / sum |s_anchor|      over the frames in scope
//! sum    += P(change)                                  reuse while sum < threshold
//! compute: keep the residual, sum = 0
//! ```
//!
//! Source: arXiv 2411.19108; ali-vilab/TeaCache at 7c10efc (`anchor = previous`);
//! kijai/ComfyUI-WanVideoWrapper at a623f87 (`anchor = computed`).
//!
//! In diffusion forcing the references average over all frames. Frames that are not being updated
//! (a clean prefix, finished or waiting blocks) do not change, so they dilute the average: an
//! extension pass skips far more than the first pass at the very same timesteps
//! (ComfyUI-WanVideoWrapper issue 484). By default only updated frames count here, and negative
//! values of the polynomial are taken as 0, so that the sum never shrinks.

use serde::Deserialize;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Error, Evaluation, OptionSpec,
    Replaces, Result, Signal, Tensor, TensorForm, TensorOps,
};

use crate::accumulator::{Accumulator, relative_l1, rescale};

/// Options of [`TeaCache`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TeaCacheOptions {
    /// Which time signal is compared.
    pub mode: Mode,
    /// Reuse while the accumulated change is below this; 0 switches the cache off.
    pub threshold: f64,
    /// Polynomial that rescales the change, highest power first; empty: the change itself.
    pub coefficients: Vec<f64>,
    /// What the signal is compared with.
    pub anchor: Anchor,
    /// Frames that count.
    pub scope: Scope,
    /// What a negative value of the polynomial means.
    pub negative: Negative,
    /// First evaluations that always compute.
    pub retention: u32,
    /// Last evaluations that always compute.
    pub last: u32,
    /// Most reuses in a row; 0: no limit.
    pub max_skips: u32,
}

/// The time signal that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The time embedding, `[F, D]`.
    E,
    /// The time projection, `[F, 6, D]`.
    E0,
}

/// What the signal is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// The previous evaluation (TeaCache, SkyReels-V2): changes add up along the path.
    Previous,
    /// The last computed evaluation (WanVideoWrapper): distances from one point add up.
    Computed,
}

/// Frames that count in the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Those that this round updates.
    UpdatedFrames,
    /// All of the window, as the references do.
    AllFrames,
}

/// What a negative value of the polynomial means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// No change.
    Clamp,
    /// A step back, as the references have it.
    Reference,
}

/// The cache.
pub struct TeaCache {
    options: TeaCacheOptions,
    bytes_max: u64,
    accumulator: Accumulator,
    anchor: Option<Tensor>,
    residual: Option<Tensor>,
    skipped_in_a_row: u32,
}

impl Mode {
    fn signal(self) -> Signal {
        match self {
            Self::E => Signal::TimeEmbedding,
            Self::E0 => Signal::TimeProjection,
        }
    }
}

impl Cache for TeaCache {
    type Options = TeaCacheOptions;
    const ID: &'static str = "teacache";
    const DOC: &'static str = "reuses the residual while the time signal has changed little";

    fn options() -> Vec<OptionSpec> {
        vec![
            OptionSpec::choice("mode", &["e0", "e"], "time signal that is compared"),
            OptionSpec::float(
                "threshold",
                0.1,
                (0.0, 100.0),
                "reuse below this accumulated change",
            )
            .flag("teacache_thresh"),
            OptionSpec::float_list(
                "coefficients",
                "polynomial over the change, highest power first",
            ),
            OptionSpec::choice(
                "anchor",
                &["previous", "computed"],
                "what the signal is compared with",
            ),
            OptionSpec::choice("scope", &["updated-frames", "all-frames"], "frames that count"),
            OptionSpec::choice("negative", &["clamp", "reference"], "a negative polynomial value"),
            OptionSpec::int("retention", 1, (1, 1000), "first evaluations that always compute"),
            OptionSpec::int("last", 1, (0, 1000), "last evaluations that always compute"),
            OptionSpec::int("max_skips", 3, (0, 1000), "most reuses in a row; 0: no limit"),
        ]
    }

    fn new(options: TeaCacheOptions, context: &CacheContext) -> Result<Self> {
        if options.coefficients.iter().any(|c| !c.is_finite()) {
            return Err(Error::invalid("coefficients: every number must be finite"));
        }
        let signal = context.signal_bytes(options.mode.signal());
        let bytes_max = if options.threshold > 0.0 { signal + context.residual_bytes() } else { 0 };
        Ok(Self {
            options,
            bytes_max,
            accumulator: Accumulator::default(),
            anchor: None,
            residual: None,
            skipped_in_a_row: 0,
        })
    }

    fn plan(&self) -> CachePlan {
        CachePlan {
            decides: DecisionPoint::BeforeBlocks,
            reads: vec![self.options.mode.signal()],
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: true,
            bytes_max: self.bytes_max,
            measures: ["rel_l1", "rescaled", "before", "after"].map(String::from).to_vec(),
        }
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        if self.options.threshold == 0.0 {
            return Ok(Decision::compute_and_forget());
        }
        let signal = evaluation.signal(self.options.mode.signal())?;
        let change = self.change(evaluation, signal, ops)?;
        let rescaled = change.map(|c| self.rescaled(c));
        let before;
        let reuse = match rescaled.filter(|r| r.is_finite()) {
            Some(rescaled) if !self.is_protected(evaluation) => {
                let below = self.accumulator.add(rescaled, self.options.threshold);
                before = self.accumulator.sum();
                below && !self.is_tired()
            }
            _ => {
                before = 0.0;
                false
            }
        };
        let residual = self.residual.clone().filter(|r| reuse && fits(r, evaluation.computes));
        if residual.is_none() || self.options.anchor == Anchor::Previous {
            self.anchor = Some(signal.clone());
        }
        let decision = match residual {
            Some(residual) => {
                self.skipped_in_a_row += 1;
                Decision::reuse(residual)
            }
            None => {
                self.accumulator.reset();
                self.skipped_in_a_row = 0;
                // The old residual goes before the new one comes: one at a time is enough.
                self.residual = None;
                match evaluation.remaining {
                    0 => Decision::compute_and_forget(),
                    _ => Decision::compute(),
                }
            }
        };
        let (change, rescaled) = (change.unwrap_or(0.0), rescaled.unwrap_or(0.0));
        Ok(decision.measured(vec![change, rescaled, before, self.accumulator.sum()]))
    }

    fn store(&mut self, residual: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.residual = Some(residual.clone());
        Ok(())
    }
}

impl TeaCache {
    /// Relative change of the signal; none on the first evaluation, after another shape, or where
    /// it is undefined.
    fn change(
        &self,
        evaluation: &Evaluation<'_>,
        signal: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Option<f64>> {
        let Some(anchor) = self.anchor.as_ref().filter(|a| fits(a, signal.form())) else {
            return Ok(None);
        };
        let diffs = ops.frame_abs_diffs(signal, anchor)?;
        let sums = ops.frame_abs_sums(anchor)?;
        let all = self.options.scope == Scope::AllFrames;
        Ok(relative_l1(&diffs, &sums, |frame| all || evaluation.levels[frame].update))
    }

    fn rescaled(&self, change: f64) -> f64 {
        let rescaled = rescale(&self.options.coefficients, change);
        match self.options.negative {
            Negative::Clamp => rescaled.max(0.0),
            Negative::Reference => rescaled,
        }
    }

    fn is_protected(&self, evaluation: &Evaluation<'_>) -> bool {
        evaluation.index < self.options.retention || evaluation.remaining < self.options.last
    }

    fn is_tired(&self) -> bool {
        self.options.max_skips > 0 && self.skipped_in_a_row >= self.options.max_skips
    }
}

/// Whether a kept tensor is still of the shape that is needed now.
fn fits(kept: &Tensor, needed: TensorForm) -> bool {
    let kept = kept.form();
    (kept.frames, kept.frame_elements) == (needed.frames, needed.frame_elements)
}

#[cfg(test)]
mod tests;
