//! The noise levels of a frame, by its step.

use std::ops::Range;
use std::sync::Arc;

use wan_plugin_api::{Error, FrameLevel, Result, SampleRequest};
use wan_samplers::{SigmaTable, Solver, SolverOptions};

use crate::chunk::Chunk;
use crate::matrix::Row;

/// Timestep of a frame that is still pure noise, whatever the first timestep of the table is.
const NOT_STARTED_TIMESTEP: f64 = 999.0;

/// A solver's table, and the part of it that is run.
pub(crate) struct Descent {
    options: SolverOptions,
    table: Arc<SigmaTable>,
    part: Range<usize>,
}

impl Descent {
    pub(crate) fn new(options: SolverOptions, request: &SampleRequest) -> Result<Self> {
        let table = options.table(request.steps, request.shift)?;
        let part = options.part(&table)?;
        Ok(Self { options, table, part })
    }

    /// A notice for the user if the run does not start from pure noise.
    pub(crate) fn notice(&self) -> Option<String> {
        self.options.notice(&self.table)
    }

    /// Steps of each frame.
    pub(crate) fn steps(&self) -> usize {
        self.part.len()
    }

    /// Checks that a part of a schedule is not combined with chunks: a chunk continues from clean
    /// frames of the previous one, and its resampled frames start from pure noise.
    ///
    /// # Errors
    /// `Invalid` for more than one chunk with a part of the schedule.
    pub(crate) fn fits(&self, chunks: &[Chunk]) -> Result<()> {
        if chunks.len() > 1 && self.part != (0..self.table.steps()) {
            return Err(Error::invalid(
                "start_step and end_step with overlap_history: a part of a schedule cannot be run \
                 chunk by chunk; leave overlap_history out",
            ));
        }
        Ok(())
    }

    /// The step of the table for a counter of [`Row`]; `None` before the first and after the last.
    pub(crate) fn index(&self, counter: usize) -> Option<usize> {
        (1..=self.steps()).contains(&counter).then(|| self.part.start + counter - 1)
    }

    /// Level of a frame with this counter.
    pub(crate) fn level(&self, frame: u32, counter: usize) -> FrameLevel {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        match self.index(counter) {
            Some(index) => {
                FrameLevel::moving(frame, timesteps[index], sigmas[index], sigmas[index + 1])
            }
            None if counter > 0 => {
                self.table.arrived(&FrameLevel::frozen(frame, 0.0, 0.0), self.part.end - 1)
            }
            None if self.notice().is_none() => FrameLevel::frozen(frame, NOT_STARTED_TIMESTEP, 1.0),
            None => FrameLevel::frozen(frame, timesteps[self.part.start], sigmas[self.part.start]),
        }
    }

    /// `level`, of a frame with this counter, at the end of its step.
    pub(crate) fn arrived(&self, level: &FrameLevel, counter: usize) -> FrameLevel {
        match self.index(counter) {
            Some(index) => self.table.arrived(level, index),
            None => *level,
        }
    }

    /// Model evaluations of a row: the most that a moving block needs.
    pub(crate) fn evaluations(&self, row: &Row) -> u32 {
        let of = |block: usize| match self.index(row.counters[block]) {
            Some(index) if row.updates[block] => {
                self.options.solver.evaluations(&self.table, index)
            }
            _ => 1,
        };
        row.window.clone().map(of).max().unwrap_or(1)
    }

    /// A fresh solver for a sample whose first frame is `first_frame` of the video.
    pub(crate) fn solver(&self, first_frame: u32) -> Box<dyn Solver> {
        self.options.solver_from(&self.table, first_frame)
    }
}
