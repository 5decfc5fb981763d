//! A column of MagCache's ratios, resampled to the steps of a run; each frame reads it at its own
//! step.

use wan_plugin_api::state::{Bits, Saved, misfit};
use wan_plugin_api::{CacheContext, FrameLevel, Result};

/// `table` at `steps` entries: entry `i` is the nearest to `i * (len - 1) / (steps - 1)`, ties to
/// the even one, in the reference's order of operations (`nearest_interp`, MagCache at df81cb1).
pub(super) fn resample(table: &[f64], steps: usize) -> Vec<f64> {
    let Some(last) = table.last() else { return Vec::new() };
    match steps {
        0 => Vec::new(),
        1 => vec![*last],
        _ if steps == table.len() => table.to_vec(),
        _ => {
            let scale = (table.len() - 1) as f64 / (steps - 1) as f64;
            let nearest = |i: usize| (i as f64 * scale).round_ties_even() as usize;
            (0..steps).map(|i| table[nearest(i).min(table.len() - 1)]).collect()
        }
    }
}

/// The step of each frame in the column, and the product of its ratios since the last computed
/// evaluation.
#[derive(Debug, Clone)]
pub(super) struct FrameRatios {
    column: Vec<f64>,
    /// Number of updates of each frame so far.
    steps: Vec<usize>,
    /// Product of each frame's ratios since the last computed evaluation.
    ratios: Vec<f64>,
}

impl FrameRatios {
    /// All frames at the step at which this stream starts.
    pub(super) fn new(table: &[f64], context: &CacheContext) -> Self {
        let evaluations =
            context.evaluations_before + context.evaluations + context.evaluations_after;
        // With one level for all frames, every evaluation is a step of every frame.
        let steps = if context.timesteps_max <= 1 { evaluations } else { context.steps };
        Self {
            column: resample(table, steps as usize),
            steps: vec![context.evaluations_before as usize; context.frames as usize],
            ratios: vec![1.0; context.frames as usize],
        }
    }

    /// Multiplies the ratios of one evaluation in and returns `mean |1 - ratio|` over the updated
    /// frames; `None` where no frame is updated or the number of frames has changed.
    pub(super) fn advance(&mut self, levels: &[FrameLevel]) -> Option<f64> {
        if levels.len() != self.steps.len() {
            self.steps.resize(levels.len(), 0);
            self.ratios.resize(levels.len(), 1.0);
            return None;
        }
        let mut errors = Vec::new();
        for (frame, _) in levels.iter().enumerate().filter(|(_, level)| level.update) {
            let step = self.steps[frame].min(self.column.len().checked_sub(1)?);
            self.ratios[frame] *= self.column[step];
            errors.push((1.0 - self.ratios[frame]).abs());
        }
        mean(&errors).filter(|mean| mean.is_finite())
    }

    /// Counts the updates of one evaluation.
    pub(super) fn count(&mut self, levels: &[FrameLevel]) {
        for (steps, level) in self.steps.iter_mut().zip(levels) {
            *steps += usize::from(level.update);
        }
    }

    pub(super) fn put(&self, saved: &mut Saved) -> Result<()> {
        saved.put("steps", &self.steps)?;
        saved.put("ratios", Bits::all(&self.ratios))
    }

    pub(super) fn take(&mut self, saved: &mut Saved) -> Result<()> {
        self.steps = saved.take("steps")?;
        self.ratios = Bits::floats(&saved.take::<Vec<Bits>>("ratios")?);
        if self.ratios.len() != self.steps.len() {
            return Err(misfit("ratios", self.steps.len(), self.ratios.len()));
        }
        Ok(())
    }

    /// Sets all ratios to 1, after a computed evaluation.
    pub(super) fn reset(&mut self) {
        self.ratios.fill(1.0);
    }
}

/// Mean of the values; exactly their common value where all are equal.
fn mean(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    let rest: f64 = values.iter().map(|v| v - first).sum();
    Some(first + rest / values.len() as f64)
}
