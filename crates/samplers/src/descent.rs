//! The way from noise to clean frames: a table, the part of it that is run, and the solvers.

use std::ops::Range;
use std::sync::Arc;

use wan_plugin_api::{Error, FrameLevel, OptionValues, Result};

use crate::{Entry, LevelOptions, SigmaTable, Solver};

type Make<T> = Box<dyn Fn(&Arc<SigmaTable>, u32) -> Result<T> + Send>;

/// The table of a run, the part of it that is run, and any number of solvers that go down it.
pub struct Descent<T = Box<dyn Solver>> {
    table: Arc<SigmaTable>,
    part: Range<usize>,
    notice: Option<String>,
    make: Make<T>,
    /// A solver that takes no step: it says what each step will need.
    first: T,
}

impl Descent {
    /// The way of one solver, with these values among those of other options.
    ///
    /// # Errors
    /// `Invalid` for options that cannot be followed.
    pub fn of(entry: Entry, values: &OptionValues, (steps, shift): (u32, f64)) -> Result<Self> {
        let levels = LevelOptions::read(values)?;
        let table = levels.table(entry.levels(), steps, shift)?;
        let values = values.clone();
        let make = move |table: &Arc<SigmaTable>, first| entry.make(&values, table.clone(), first);
        Self::new(Arc::new(table), &levels, make)
    }
}

impl<T: Solver> Descent<T> {
    /// The way down `table`, of which `levels` says what part is run. `make` makes solvers with an
    /// empty history, for samples whose first frame is of this number in the video.
    ///
    /// # Errors
    /// `Invalid` for a part that is none of the table, and the errors of `make`.
    pub fn new(
        table: Arc<SigmaTable>,
        levels: &LevelOptions,
        make: impl Fn(&Arc<SigmaTable>, u32) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let (part, notice) = (levels.part(&table)?, levels.notice(&table));
        let first = make(&table, 0)?;
        Ok(Self { table, part, notice, make: Box::new(make), first })
    }

    /// The noise levels.
    pub fn table(&self) -> &SigmaTable {
        &self.table
    }

    /// The steps of the table that are run.
    pub fn part(&self) -> Range<usize> {
        self.part.clone()
    }

    /// A notice for the user if the run does not start from pure noise.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// A solver with an empty history, for a sample whose first frame is `first_frame` of the
    /// video.
    ///
    /// # Errors
    /// The error of the solver.
    pub fn solver(&self, first_frame: u32) -> Result<T> {
        (self.make)(&self.table, first_frame)
    }

    /// Model evaluations of step `index`.
    pub fn evaluations(&self, index: usize) -> u32 {
        self.first.evaluations(index)
    }

    /// Level of a frame at the start of step `index`.
    pub fn moving(&self, frame: u32, index: usize) -> FrameLevel {
        let SigmaTable { sigmas, timesteps } = &*self.table;
        FrameLevel::moving(frame, timesteps[index], sigmas[index], sigmas[index + 1])
    }

    /// `level`, of a frame in step `index`, where evaluation `evaluation` is made, from 1; where
    /// the step has no such evaluation, at its end.
    ///
    /// # Errors
    /// The error of the solver; `Failed` for a level that is none.
    pub fn seen(&self, level: &FrameLevel, index: usize, evaluation: u32) -> Result<FrameLevel> {
        let is_within = evaluation < self.evaluations(index);
        let place = if is_within { self.first.level(index, evaluation)? } else { None };
        let Some((timestep, sigma)) = place else { return Ok(self.table.arrived(level, index)) };
        if !(timestep.is_finite() && (0.0..=1.0).contains(&sigma)) {
            return Err(Error::failed(format!(
                "evaluation {evaluation} of step {index} at timestep {timestep} and sigma {sigma}: \
                 a sigma is a noise fraction from 0 to 1"
            )));
        }
        let sigma_next = level.sigma_next.min(sigma);
        Ok(FrameLevel { timestep, sigma, sigma_next, ..*level })
    }
}
