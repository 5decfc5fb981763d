//! Limits that all caches share: evaluations that always compute, and the largest number of reuses
//! in a row.

use serde::Deserialize;
use wan_plugin_api::state::Saved;
use wan_plugin_api::{Choice, Evaluation, FrameLevel, OptionSpec, Protects, Result};

/// The limits as options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LimitOptions {
    /// First evaluations that always compute.
    pub retention: u32,
    /// Last evaluations that always compute.
    pub last: u32,
    /// Most reuses in a row; 0: no limit.
    pub max_skips: u32,
}

impl LimitOptions {
    /// The three options, with these defaults.
    pub(crate) fn specs(self) -> Vec<OptionSpec> {
        vec![
            retention_spec(self.retention),
            last_spec(self.last),
            OptionSpec::int(
                "max_skips",
                self.max_skips.into(),
                (0, 1000),
                "most reuses in a row; 0: no limit",
            ),
        ]
    }
}

pub(crate) fn retention_spec(default: u32) -> OptionSpec {
    let doc = "first evaluations that always compute";
    OptionSpec::int("retention", default.into(), (1, 1000), doc)
}

pub(crate) fn last_spec(default: u32) -> OptionSpec {
    OptionSpec::int("last", default.into(), (0, 1000), "last evaluations that always compute")
}

/// Counts the updates of each frame. In asynchronous diffusion forcing a frame may begin long after
/// the first evaluation, and its first steps are the ones to protect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beginnings {
    updates: Vec<u32>,
}

impl Beginnings {
    /// Whether a frame with `update` set was updated fewer than `first` times so far.
    pub(crate) fn any(&self, levels: &[FrameLevel], first: u32) -> bool {
        let moved = |frame: usize| self.updates.get(frame).copied().unwrap_or(0);
        levels.iter().enumerate().any(|(frame, level)| level.update && moved(frame) < first)
    }

    /// Counts the updates of one evaluation.
    pub(crate) fn count(&mut self, levels: &[FrameLevel]) {
        self.updates.resize(levels.len(), 0);
        for (count, _) in self.updates.iter_mut().zip(levels).filter(|(_, level)| level.update) {
            *count += 1;
        }
    }

    pub(crate) fn put(&self, saved: &mut Saved) -> Result<()> {
        saved.put("updates", &self.updates)
    }

    pub(crate) fn take(&mut self, saved: &mut Saved) -> Result<()> {
        self.updates = saved.take("updates")?;
        Ok(())
    }
}

/// Applies the limits: counts the reuses in a row.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    options: LimitOptions,
    period: Option<u32>,
    skipped_in_a_row: u32,
}

impl Limits {
    pub(crate) fn new(options: LimitOptions) -> Self {
        Self { options, period: None, skipped_in_a_row: 0 }
    }

    /// Protects the first evaluations again after every `period` evaluations.
    pub(crate) fn with_period(self, period: Option<u32>) -> Self {
        Self { period, ..self }
    }

    /// The limits, for the plan.
    pub(crate) fn protects(&self) -> Protects {
        let LimitOptions { retention, last, max_skips } = self.options;
        Protects { first: retention, last, reuses_max: max_skips }
    }

    /// Whether this evaluation always computes.
    pub(crate) fn protect(&self, evaluation: &Evaluation<'_>) -> bool {
        let index = match self.period {
            Some(period) => evaluation.index % period.max(1),
            None => evaluation.index,
        };
        index < self.options.retention || evaluation.remaining < self.options.last
    }

    /// Whether the largest number of reuses in a row is reached.
    pub(crate) fn exhausted(&self) -> bool {
        self.options.max_skips > 0 && self.skipped_in_a_row >= self.options.max_skips
    }

    /// Reuses since the last computed evaluation.
    pub(crate) fn skipped_in_a_row(&self) -> u32 {
        self.skipped_in_a_row
    }

    /// Counts a decision.
    pub(crate) fn count(&mut self, choice: Choice) {
        self.skipped_in_a_row = match choice {
            Choice::Compute => 0,
            Choice::Reuse => self.skipped_in_a_row + 1,
        };
    }

    pub(crate) fn put(&self, saved: &mut Saved) -> Result<()> {
        saved.put("skipped_in_a_row", self.skipped_in_a_row)
    }

    pub(crate) fn take(&mut self, saved: &mut Saved) -> Result<()> {
        self.skipped_in_a_row = saved.take("skipped_in_a_row")?;
        Ok(())
    }
}
