//! The noise levels of a frame, by the counter of its block.

use wan_plugin_api::{Error, FrameLevel, Result};
use wan_samplers::{Descent, Solver};

use crate::matrix::Row;

/// Timestep of a frame that is still pure noise, whatever the first timestep of the table is.
const NOT_STARTED_TIMESTEP: f64 = 999.0;

/// A way down the noise levels that every block goes for itself.
pub(crate) struct Counted {
    descent: Descent,
}

impl Counted {
    pub(crate) fn new(descent: Descent) -> Self {
        Self { descent }
    }

    /// A notice for the user if the run does not start from pure noise.
    pub(crate) fn notice(&self) -> Option<&str> {
        self.descent.notice()
    }

    /// Steps of each frame.
    pub(crate) fn steps(&self) -> usize {
        self.descent.part().len()
    }

    /// Checks that a part of a schedule is not combined with chunks: a chunk continues from clean
    /// frames of the previous one, and its resampled frames start from pure noise.
    ///
    /// # Errors
    /// `Invalid` for more than one chunk with a part of the schedule.
    pub(crate) fn fits(&self, chunks: usize) -> Result<()> {
        if chunks > 1 && self.descent.part() != (0..self.descent.table().steps()) {
            return Err(Error::invalid(
                "start_step and end_step with overlap_history: a part of a schedule cannot be run \
                 chunk by chunk; leave overlap_history out",
            ));
        }
        Ok(())
    }

    /// The step of the table for a counter of [`Row`]; `None` before the first and after the last.
    pub(crate) fn index(&self, counter: usize) -> Option<usize> {
        (1..=self.steps()).contains(&counter).then(|| self.descent.part().start + counter - 1)
    }

    /// Level of a frame with this counter.
    pub(crate) fn level(&self, frame: u32, counter: usize) -> FrameLevel {
        let (table, part) = (self.descent.table(), self.descent.part());
        match self.index(counter) {
            Some(index) => self.descent.moving(frame, index),
            None if counter > 0 => {
                table.arrived(&FrameLevel::frozen(frame, 0.0, 0.0), part.end - 1)
            }
            None if self.notice().is_none() => FrameLevel::frozen(frame, NOT_STARTED_TIMESTEP, 1.0),
            None => {
                let start = part.start;
                FrameLevel::frozen(frame, table.timesteps[start], table.sigmas[start])
            }
        }
    }

    /// `level`, of a frame with this counter, where evaluation `evaluation` of its step is made,
    /// from 1.
    ///
    /// # Errors
    /// The error of the solver.
    pub(crate) fn seen(
        &self,
        level: &FrameLevel,
        counter: usize,
        evaluation: u32,
    ) -> Result<FrameLevel> {
        match self.index(counter) {
            Some(index) => self.descent.seen(level, index, evaluation),
            None => Ok(*level),
        }
    }

    /// The step of a block that takes part in this evaluation, from 0. A block whose step has fewer
    /// stays where it is.
    pub(crate) fn takes_part(&self, row: &Row, block: usize, evaluation: u32) -> Option<usize> {
        let index = self.index(row.counters[block]).filter(|_| row.updates[block])?;
        (evaluation < self.descent.evaluations(index).max(1)).then_some(index)
    }

    /// Model evaluations of a row: the most that a moving block needs.
    pub(crate) fn evaluations(&self, row: &Row) -> u32 {
        let of = |block: usize| match self.takes_part(row, block, 0) {
            Some(index) => self.descent.evaluations(index),
            None => 1,
        };
        row.window.clone().map(of).max().unwrap_or(1)
    }

    /// A fresh solver for a sample whose first frame is `first_frame` of the video.
    ///
    /// # Errors
    /// The error of the solver.
    pub(crate) fn solver(&self, first_frame: u32) -> Result<Box<dyn Solver>> {
        self.descent.solver(first_frame)
    }
}
