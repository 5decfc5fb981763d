//! Noise levels and timesteps of a run, spaced as in the reference implementations.
//!
//! `shift(s) = k * s / (1 + (k - 1) * s)` (Esser et al. 2024, "Scaling Rectified Flow
//! Transformers", section 5.3.2). Grids are computed in f64 in numpy's order of operations, because
//! a timestep is then cut to an integer; sigmas are rounded to f32, as every reference does before
//! it takes a logarithm (`1 - sigma` of the first one is 1.3 % off without that rounding).

use serde::Deserialize;
use wan_plugin_api::{Error, FrameLevel, Result};

use crate::level::Level;

/// Timesteps that the models were trained with: `timestep = 1000 * sigma`.
pub(crate) const TRAINING_STEPS: f64 = 1000.0;

/// `1 - sigma` of the first entry is at least this where a solver takes its logarithm.
const FIRST_ALPHA_MIN: f64 = 1e-6;

/// The reference whose grid is used. Between the two, sigmas differ by up to 6e-3 and timesteps by
/// up to 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestepRule {
    /// diffusers 0.42: `UniPCMultistepScheduler` and `DPMSolverMultistepScheduler` with
    /// `use_flow_sigmas`, `FlowMatchEulerDiscreteScheduler`. Model folders in diffusers' layout
    /// name these schedulers, so this is the default.
    #[default]
    Diffusers,
    /// The original repositories: Wan2.1 (commit 9737cba) `fm_solvers_unipc.py` and
    /// `fm_solvers.py`, which SkyReels-V2 (abed76f) copies. They have no Euler; here it uses the
    /// grid of their DPM++ (`shift(1 - i / N)`) without truncating timesteps to integers.
    Wan,
}

/// The scheduler from which a solver takes its noise levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Flow-match Euler: a line between shifted ends; timesteps are not truncated.
    FlowMatchEuler,
    /// UniPC.
    UniPc,
    /// DPM-Solver++, and the multistep solvers whose schedulers were derived from it.
    Dpm,
}

/// The noise levels of a solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseLevels {
    /// The scheduler that they are from.
    pub grid: Grid,
    /// Whether sigma 1 becomes 0.999999: the solver's formulas have no limit at pure noise, where
    /// alpha is 0.
    pub below_pure_noise: bool,
}

impl NoiseLevels {
    /// Those of this scheduler.
    #[must_use]
    pub const fn of(grid: Grid) -> Self {
        Self { grid, below_pure_noise: false }
    }

    /// The same, with sigma 1 a little below it.
    #[must_use]
    pub const fn below_pure_noise(self) -> Self {
        Self { below_pure_noise: true, ..self }
    }
}

/// The noise levels of a run, and the timestep of the model at each.
#[derive(Debug, Clone, PartialEq)]
pub struct SigmaTable {
    /// `steps + 1` noise fractions, never rising. The last is 0, or the level from which a later
    /// run continues.
    pub sigmas: Vec<f64>,
    /// `steps` timesteps, one for the first evaluation of each step.
    pub timesteps: Vec<f64>,
}

impl SigmaTable {
    /// The table of a solver's reference scheduler.
    ///
    /// # Errors
    /// `Invalid` for no steps, or a shift that is not a positive number.
    pub fn new(levels: NoiseLevels, rule: TimestepRule, steps: u32, shift: f64) -> Result<Self> {
        check(steps, shift)?;
        let (steps, grid) = (steps as usize, levels.grid);
        if (grid, rule) == (Grid::FlowMatchEuler, TimestepRule::Diffusers) {
            return Ok(flow_match_euler(steps, shift));
        }
        let mut sigmas: Vec<f64> =
            base_grid(grid, rule, steps).iter().map(|s| shifted(*s, shift)).collect();
        sigmas.push(0.0);
        Ok(Self::of_sigmas(levels, sigmas))
    }

    /// The table with these sigmas, with timesteps rounded as the solver's reference rounds them.
    pub(crate) fn of_sigmas(levels: NoiseLevels, mut sigmas: Vec<f64>) -> Self {
        if levels.below_pure_noise {
            // diffusers subtracts 1e-6 from a first sigma of 1; Wan's own grid is below 1 anyway.
            // Clamping all keeps the order: beta spacing can have several sigmas that near 1.
            sigmas.iter_mut().for_each(|sigma| *sigma = sigma.min(1.0 - FIRST_ALPHA_MIN));
        }
        let timestep = |sigma: &f64| match levels.grid {
            // Flow-match Euler does not truncate; its timesteps are f32.
            Grid::FlowMatchEuler => f64::from((sigma * TRAINING_STEPS) as f32),
            _ => (sigma * TRAINING_STEPS).trunc(),
        };
        let timesteps = sigmas[..sigmas.len() - 1].iter().map(timestep).collect();
        // Rounding to f32 can lift the first sigma above 1, which is more than pure noise.
        let sigmas = sigmas.iter().map(|s| f64::from((*s as f32).min(1.0))).collect();
        Self { sigmas, timesteps }
    }

    /// [`of_sigmas`](Self::of_sigmas) for sigmas given by the user: the references truncate the
    /// timesteps of these in f32.
    pub(crate) fn of_written(levels: NoiseLevels, sigmas: Vec<f64>) -> Self {
        let mut table = Self::of_sigmas(levels, sigmas);
        if levels.grid != Grid::FlowMatchEuler {
            for (timestep, sigma) in table.timesteps.iter_mut().zip(&table.sigmas) {
                *timestep = f64::from(*sigma as f32 * TRAINING_STEPS as f32).trunc();
            }
        }
        table
    }

    /// The table with sigmas clamped below 1 where the solver's formulas are undefined at 1.
    pub(crate) fn below_pure_noise(mut self, levels: NoiseLevels) -> Self {
        if levels.below_pure_noise {
            let highest = f64::from((1.0 - FIRST_ALPHA_MIN) as f32);
            self.sigmas.iter_mut().for_each(|sigma| *sigma = sigma.min(highest));
        }
        self
    }

    /// Steps from the first sigma to the last.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// Both ends of step `index`.
    ///
    /// # Errors
    /// `Failed` for an index outside the table.
    pub(crate) fn step(&self, index: usize) -> Result<(Level, Level)> {
        match self.sigmas.get(index..index + 2) {
            Some(ends) => Ok((Level::new(ends[0]), Level::new(ends[1]))),
            None => Err(Error::failed(format!("step {index} of a table of {}", self.steps()))),
        }
    }

    /// `level` at the end of step `index`, with the timestep that the model gets there.
    pub fn arrived(&self, level: &FrameLevel, index: usize) -> FrameLevel {
        let sigma = self.sigmas[index + 1];
        let timestep = self.timesteps.get(index + 1).copied().unwrap_or(TRAINING_STEPS * sigma);
        FrameLevel { timestep, sigma, sigma_next: sigma, ..*level }
    }
}

pub(crate) fn check(steps: u32, shift: f64) -> Result<()> {
    if steps == 0 {
        return Err(Error::invalid("0 inference steps: give 1 or more"));
    }
    if !(shift > 0.0 && shift.is_finite()) {
        return Err(Error::invalid(format!("flow shift {shift} is not a positive number")));
    }
    Ok(())
}

/// Sigmas before the shift, without the final 0.
fn base_grid(grid: Grid, rule: TimestepRule, steps: usize) -> Vec<f64> {
    let last = 1.0 / TRAINING_STEPS;
    let mut sigmas = match (grid, rule) {
        (Grid::Dpm, TimestepRule::Diffusers) => {
            linspace(1.0, last, steps + 1).iter().rev().map(|alpha| 1.0 - alpha).collect()
        }
        (_, TimestepRule::Diffusers) => linspace(1.0, last, steps + 1),
        // FlowUniPC reads its largest sigma back from an f32 tensor.
        (Grid::UniPc, TimestepRule::Wan) => {
            linspace(f64::from((1.0 - last) as f32), 0.0, steps + 1)
        }
        (_, TimestepRule::Wan) => linspace(1.0, 0.0, steps + 1), // get_sampling_sigmas
    };
    sigmas.truncate(steps);
    sigmas
}

/// `FlowMatchEulerDiscreteScheduler`: `set_timesteps` shifts a line between two ends that are
/// already shifted; timesteps stay f32.
fn flow_match_euler(steps: usize, shift: f64) -> SigmaTable {
    let [first, last] = training_ends(shift).map(|sigma| sigma * TRAINING_STEPS);
    let sigmas: Vec<f64> = linspace(first, last, steps)
        .iter()
        .map(|timestep| shifted(timestep / TRAINING_STEPS, shift))
        .collect();
    of_f32(&sigmas)
}

/// A table with f32 sigmas and timesteps, not truncated, that ends at 0.
pub(crate) fn of_f32(sigmas: &[f64]) -> SigmaTable {
    let sigmas: Vec<f32> = sigmas.iter().map(|sigma| (*sigma as f32).min(1.0)).collect();
    SigmaTable {
        timesteps: sigmas.iter().map(|s| f64::from(s * TRAINING_STEPS as f32)).collect(),
        sigmas: sigmas.iter().map(|s| f64::from(*s)).chain([0.0]).collect(),
    }
}

/// First and last level of training after the shift, in f32 as in the constructor of
/// `FlowMatchEulerDiscreteScheduler`.
pub(crate) fn training_ends(shift: f64) -> [f64; 2] {
    [TRAINING_STEPS as f32, 1.0].map(|timestep: f32| {
        let (sigma, shift) = (timestep / TRAINING_STEPS as f32, shift as f32);
        f64::from(shift * sigma / (1.0 + (shift - 1.0) * sigma))
    })
}

pub(crate) fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// `numpy.linspace`, both ends included, in its order of operations.
pub(crate) fn linspace(start: f64, stop: f64, points: usize) -> Vec<f64> {
    if points < 2 {
        return vec![start; points];
    }
    let step = (stop - start) / (points - 1) as f64;
    let mut line: Vec<f64> = (0..points).map(|i| i as f64 * step + start).collect();
    line[points - 1] = stop;
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DpmMultistep, Euler, NamedSolver, UniPc};

    fn timesteps(levels: NoiseLevels, rule: TimestepRule, steps: u32, shift: f64) -> Vec<f64> {
        SigmaTable::new(levels, rule, steps, shift).unwrap().timesteps
    }

    /// First four of ten steps, as the references print them.
    #[test]
    fn every_rule_spaces_its_steps_as_its_reference_does() {
        let first = |levels, rule| timesteps(levels, rule, 10, 8.0)[..4].to_vec();
        let f32s = |list: [f32; 4]| list.map(f64::from).to_vec();
        assert_eq!(first(UniPc::LEVELS, TimestepRule::Diffusers), [999.0, 986.0, 969.0, 949.0]);
        assert_eq!(
            first(DpmMultistep::LEVELS, TimestepRule::Diffusers),
            [999.0, 986.0, 969.0, 948.0]
        );
        assert_eq!(first(UniPc::LEVELS, TimestepRule::Wan), [999.0, 986.0, 969.0, 948.0]);
        assert_eq!(first(DpmMultistep::LEVELS, TimestepRule::Wan), [1000.0, 986.0, 969.0, 949.0]);
        let euler = f32s([1000.0, 984.7506, 965.8567, 941.83405]);
        assert_eq!(first(Euler::LEVELS, TimestepRule::Diffusers), euler);
    }

    #[test]
    fn steps_and_shift_that_make_no_table_are_refused() {
        for (steps, shift) in [(0, 3.0), (4, 0.0), (4, -1.0), (4, f64::NAN), (4, f64::INFINITY)] {
            let levels = NoiseLevels::of(Grid::UniPc);
            let error = SigmaTable::new(levels, TimestepRule::Wan, steps, shift);
            assert_eq!(error.unwrap_err().kind, wan_plugin_api::ErrorKind::Invalid);
        }
    }
}
