//! MagCache: reuses the residual while its calibrated magnitude has changed little.
//!
//! ```text
//! ratio *= column[step]          |residual now| / |residual one step before|, calibrated
//! error += |1 - ratio|           reuse while error < threshold, at most K in a row
//! compute: ratio = 1, error = 0
//! ```
//!
//! Source: "MagCache: Fast Video Generation with Magnitude-Aware Cache" (arXiv 2506.09045);
//! Zehong-Ma/MagCache at df81cb1, `magcache_forward`. A fraction of the steps at the start always
//! computes (`retention_ratio`, see `phase`). Each guidance branch has its own column. For another
//! number of steps the nearest entries are used.
//!
//! Two rules differ from the reference. In diffusion forcing every frame reads the column at its
//! own step (its number of updates), and the error is the mean over the updated frames: a clean
//! prefix changes nothing, and with all frames at one level this is the reference's rule. And each
//! expert starts with error 0; the reference carries the error over to the next expert, whose
//! residual is unrelated.

mod phase;
mod ratios;

use serde::Deserialize;
use serde_json::Value;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Bits, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Error, Evaluation, Gate, Message,
    OptionSpec, Replaces, Result, Rule, Tensor, TensorOps,
};

use crate::calibration::{
    CalibrationFile, MAG_CACHE_TABLES, MagCacheTable, mag_cache_table, mag_cache_table_of,
};
use crate::half_memory::Halved;
use crate::held::{Held, fits};
use crate::limits::{LimitOptions, Limits, last_spec, retention_spec};
use phase::Phase;
use ratios::FrameRatios;

/// Options of [`MagCache`]; a number below 0 means the value published for the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MagCacheOptions {
    /// Published ratios: `auto` (the model's own), or a table by name.
    pub table: String,
    /// Content of a file of `wan cache calibrate`, or null.
    pub calibration: Value,
    /// Reuse while the accumulated error is below this; 0 switches the cache off.
    pub threshold: f64,
    /// Fraction of each expert's steps, at its start, that always computes.
    pub retention_ratio: f64,
    /// First evaluations that always compute.
    pub retention: u32,
    /// Last evaluations that always compute.
    pub last: u32,
    /// Most reuses in a row, upstream's K; 0: no limit.
    pub max_skips: i32,
}

impl Default for MagCacheOptions {
    fn default() -> Self {
        Self {
            table: "auto".into(),
            calibration: Value::Null,
            threshold: -1.0,
            retention_ratio: -1.0,
            retention: 1,
            last: 0,
            max_skips: -1,
        }
    }
}

/// MagCache.
pub struct MagCache {
    threshold: f64,
    plan: CachePlan,
    limits: Limits,
    phase: Phase,
    ratios: FrameRatios,
    error: f64,
    residual: Option<Tensor>,
}

/// Threshold, largest number of reuses in a row and retention ratio for ratios that come without
/// them: the defaults of MagCache's command line.
const UPSTREAM: (f64, u32, f64) = (0.12, 2, 0.2);

impl Cache for MagCache {
    type Options = MagCacheOptions;
    const ID: &'static str = "magcache";
    const DOC: &'static str = "reuses the residual while its calibrated size has changed little; compare before you trust it";

    fn options() -> Vec<OptionSpec> {
        let default = MagCacheOptions::default();
        let tables: Vec<&str> = ["auto"].into_iter().chain(MAG_CACHE_TABLES).collect();
        vec![
            OptionSpec::choice("table", &tables, "published ratios; auto: the model's own"),
            OptionSpec::document("calibration", "ratios that `wan cache calibrate` measured"),
            OptionSpec::float(
                "threshold",
                default.threshold,
                (-1.0, 100.0),
                "reuse below this accumulated error; -1: as published for the model",
            )
            .flag("magcache_thresh"),
            OptionSpec::float(
                "retention_ratio",
                default.retention_ratio,
                (-1.0, 1.0),
                "part of the steps that computes first; -1: as published for the model",
            ),
            retention_spec(default.retention),
            last_spec(default.last),
            OptionSpec::int(
                "max_skips",
                default.max_skips.into(),
                (-1, 1000),
                "most reuses in a row; 0: no limit; -1: as published for the model",
            )
            .flag("magcache_K"),
        ]
    }

    fn extensions() -> Vec<String> {
        vec![STATE.into()]
    }

    fn new(options: MagCacheOptions, context: &CacheContext) -> Result<Self> {
        let table = if options.threshold == 0.0 { nothing() } else { table(&options, context)? };
        let given = |option: f64| Some(option).filter(|number| *number >= 0.0);
        let threshold = given(options.threshold).unwrap_or(table.threshold);
        let ratio = given(options.retention_ratio).unwrap_or(table.retention_ratio);
        let limits = Limits::new(LimitOptions {
            retention: options.retention,
            last: options.last,
            max_skips: u32::try_from(options.max_skips).unwrap_or(table.max_skips),
        });
        let column = match context.branch.as_str() {
            "uncond" if !table.uncond.is_empty() => &table.uncond,
            _ => &table.cond,
        };
        let plan = CachePlan {
            decides: DecisionPoint::BeforeBlocks,
            reads: Vec::new(),
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: true,
            bytes_max: 0,
            measures: ["step_error", "error"].map(String::from).to_vec(),
            rule: Rule {
                per_branch: true,
                gate: Some(Gate {
                    measure: "error".into(),
                    step: Some("step_error".into()),
                    below: threshold,
                }),
                protects: Some(limits.protects()),
                ..Rule::default()
            },
        };
        Ok(Self {
            plan: held(threshold).declare(plan, context),
            threshold,
            limits,
            phase: Phase::new(context, ratio),
            ratios: FrameRatios::new(column, context),
            error: 0.0,
            residual: None,
        })
    }

    fn plan(&self) -> CachePlan {
        self.plan.clone()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        if self.threshold == 0.0 {
            return Ok(Decision::compute_and_forget());
        }
        let protected = self.phase.protects(evaluation.index) || self.limits.protect(evaluation);
        let step = if protected { None } else { self.ratios.advance(evaluation.levels) };
        self.error += step.unwrap_or(0.0);
        let numbers = vec![step.unwrap_or(0.0), self.error];
        let reuse = step.is_some() && self.error < self.threshold && !self.limits.exhausted();
        let residual = self.residual.clone().filter(|r| reuse && fits(r, evaluation.computes));
        self.ratios.count(evaluation.levels);
        let decision = match residual {
            Some(residual) => Decision::reuse(residual),
            None => {
                self.ratios.reset();
                self.error = 0.0;
                self.residual = None;
                match evaluation.remaining {
                    0 => Decision::compute_and_forget(),
                    _ => Decision::compute(),
                }
            }
        };
        self.limits.count(decision.choice());
        Ok(decision.measured(numbers))
    }

    fn store(&mut self, residual: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.residual = Some(residual.clone());
        Ok(())
    }

    fn extension(&mut self, id: &str, message: Message, _: &dyn TensorOps) -> Result<Message> {
        state::answer(Self::ID, self, id, message)
    }
}

impl State for MagCache {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.limits.put(&mut saved)?;
        self.ratios.put(&mut saved)?;
        saved.put("error", Bits(self.error))?;
        saved.put_tensors("residual", &self.residual);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.limits.take(saved)?;
        self.ratios.take(saved)?;
        self.error = saved.take::<Bits>("error")?.0;
        self.residual = saved.take_tensor("residual")?;
        Ok(())
    }
}

/// The ratios for these options, and the settings published with them.
fn table(options: &MagCacheOptions, context: &CacheContext) -> Result<MagCacheTable> {
    let file = CalibrationFile::read(&options.calibration, context)?;
    let table = match (file, options.table.as_str()) {
        (Some(_), name) if name != "auto" => {
            return Err(Error::invalid("calibration and table both name ratios; give one of them"));
        }
        (Some(file), _) => {
            let columns = file.columns()?;
            MagCacheTable {
                cond: columns.cond.clone(),
                uncond: columns.uncond.clone(),
                ..nothing()
            }
        }
        (None, "auto") => match mag_cache_table_of(context) {
            Some(name) => mag_cache_table(name)?,
            None => return Err(no_table(context)),
        },
        (None, name) => mag_cache_table(name)?,
    };
    let ratios = table.cond.iter().chain(&table.uncond);
    if !ratios.into_iter().all(|ratio| ratio.is_finite()) {
        return Err(Error::invalid("calibration: every ratio must be finite"));
    }
    Ok(table)
}

/// A table without ratios, with the default settings.
fn nothing() -> MagCacheTable {
    let (threshold, max_skips, retention_ratio) = UPSTREAM;
    MagCacheTable { threshold, max_skips, retention_ratio, ..MagCacheTable::default() }
}

fn no_table(context: &CacheContext) -> Error {
    let model = &context.model;
    Error::invalid(format!(
        "there is no table for a model of dim {}, {} layers and {} input channels ({}); make \
         one with `wan cache calibrate` and give it as calibration, or name a table: {}",
        model.dim,
        model.layers,
        model.in_channels,
        if context.experts > 1 { "two experts" } else { "one transformer" },
        MAG_CACHE_TABLES.join(", ")
    ))
}

fn held(threshold: f64) -> Held {
    Held { signals: 0, computed: u64::from(threshold > 0.0) }
}

impl Halved for MagCache {
    const HALF_ID: &'static str = "magcache-half";
    const HALF_DOC: &'static str = "magcache with the residual at half width";

    fn held(&self) -> Held {
        held(self.threshold)
    }
}

#[cfg(test)]
mod tests;
