//! The history of a multistep solver.

use std::collections::VecDeque;

use wan_plugin_api::{Result, Tensor};

use crate::memory::Memory;

/// Predictions (of the clean sample, or of the noise), newest first, each with its coordinate on
/// the solver's axis.
pub(crate) struct History {
    predictions: VecDeque<(f64, Tensor)>,
    len_max: usize,
}

impl History {
    /// An empty history that keeps the newest `len_max` predictions.
    pub(crate) fn new(len_max: usize) -> Self {
        Self { predictions: VecDeque::with_capacity(len_max + 1), len_max }
    }

    pub(crate) fn push(&mut self, place: f64, prediction: Tensor) {
        self.predictions.push_front((place, prediction));
        self.predictions.truncate(self.len_max);
    }

    /// All predictions, for a [`Memory`].
    pub(crate) fn save(&self) -> Vec<(f64, Tensor)> {
        self.predictions.iter().cloned().collect()
    }

    /// Takes the predictions out of a memory. `corrects`: the solver has a corrector and takes
    /// `memory.predicted` itself.
    pub(crate) fn load(&mut self, memory: &mut Memory, corrects: bool) -> Result<()> {
        memory.check(self.len_max, corrects)?;
        self.predictions = std::mem::take(&mut memory.predictions).into();
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.predictions.len()
    }

    /// At most `count` predictions, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<(f64, &Tensor)> {
        self.predictions.iter().take(count).map(|(place, made)| (*place, made)).collect()
    }
}
