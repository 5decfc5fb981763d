//! A column of MagCache's ratios, stretched to the steps of a run, and read by each frame at its
//! own step.

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

/// Where each frame stands in the column, and how its residual's size has changed since the last
/// computed evaluation.
#[derive(Debug, Clone)]
pub(super) struct FrameRatios {
    column: Vec<f64>,
    /// Steps that each frame has taken.
    steps: Vec<usize>,
    /// Product of its ratios since the last computed evaluation.
    ratios: Vec<f64>,
}

impl FrameRatios {
    /// Frames that start where this stream starts.
    pub(super) fn new(table: &[f64], context: &CacheContext) -> Self {
        let evaluations =
            context.evaluations_before + context.evaluations + context.evaluations_after;
        // With one level for all frames every evaluation is a step of each.
        let steps = if context.timesteps_max <= 1 { evaluations } else { context.steps };
        Self {
            column: resample(table, steps as usize),
            steps: vec![context.evaluations_before as usize; context.frames as usize],
            ratios: vec![1.0; context.frames as usize],
        }
    }

    /// Takes one more evaluation in: `mean |1 - ratio|` over the updated frames; none where no
    /// frame is updated, or there are other frames than before.
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

    /// Counts the steps that this evaluation takes.
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
        match self.ratios.len() == self.steps.len() {
            true => Ok(()),
            false => Err(misfit("ratios", self.steps.len(), self.ratios.len())),
        }
    }

    /// The residual is fresh.
    pub(super) fn reset(&mut self) {
        self.ratios.fill(1.0);
    }
}

/// Mean that is exactly the value where all are equal.
fn mean(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    let rest: f64 = values.iter().map(|v| v - first).sum();
    Some(first + rest / values.len() as f64)
}
