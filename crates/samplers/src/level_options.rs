//! The options that say through which noise levels a run goes, common to all solvers.

use std::ops::Range;

use serde::Deserialize;
use wan_plugin_api::{Error, OptionSpec, OptionValues, Result};

use crate::own_options::{read_options, those_of};
use crate::schedule::{NoiseLevels, SigmaTable, TimestepRule};
use crate::spacing::{self, Spacing};

/// A first sigma from here on counts as pure noise, however a grid rounds it.
const NOISE: f64 = 0.99;

/// The noise levels of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct LevelOptions {
    /// The reference whose levels and timesteps `uniform` spacing uses. Other spacings ignore it
    /// without an error, because it may be a default of the model folder.
    pub timesteps: TimestepRule,
    /// Spacing of the noise levels.
    pub spacing: Spacing,
    /// First parameter of `beta` spacing.
    pub beta_alpha: f64,
    /// Second parameter of `beta` spacing.
    pub beta_beta: f64,
    /// The noise levels themselves, including the last; empty: those of the spacing.
    pub sigmas: Vec<f64>,
    /// First step of the schedule that is run, from 0.
    pub start_step: u32,
    /// Step of the schedule before which the run ends; 0: the end of the schedule.
    pub end_step: u32,
}

impl Default for LevelOptions {
    fn default() -> Self {
        Self {
            timesteps: TimestepRule::default(),
            spacing: Spacing::default(),
            beta_alpha: 0.6,
            beta_beta: 0.6,
            sigmas: Vec::new(),
            start_step: 0,
            end_step: 0,
        }
    }
}

impl LevelOptions {
    /// The options.
    pub fn specs() -> Vec<OptionSpec> {
        let Self { beta_alpha, beta_beta, .. } = Self::default();
        let (first, second) =
            ("first parameter of beta spacing", "second parameter of beta spacing");
        vec![
            OptionSpec::choice(
                "timesteps",
                &["diffusers", "wan"],
                "spacing of noise levels: as in diffusers, or as in Wan's own repository",
            ),
            OptionSpec::choice(
                "spacing",
                &Spacing::NAMES,
                "noise levels: the solver's own, or others",
            ),
            OptionSpec::float("beta_alpha", beta_alpha, (0.1, 10.0), first),
            OptionSpec::float("beta_beta", beta_beta, (0.1, 10.0), second),
            OptionSpec::float_list("sigmas", "noise levels, that at the end included; not shifted"),
            OptionSpec::int("start_step", 0, (0, 1000), "first step that is taken, from 0"),
            OptionSpec::int(
                "end_step",
                0,
                (0, 1000),
                "step before which the run ends; 0: at the end",
            ),
        ]
    }

    /// The options among others; what is missing is at its default.
    ///
    /// # Errors
    /// `Invalid` for a value that does not fit.
    pub fn read(values: &OptionValues) -> Result<Self> {
        read_options("noise levels", those_of(&Self::specs(), values))
    }

    /// The noise levels of the whole schedule, for a solver with such levels;
    /// [`part`](Self::part) of it is run.
    ///
    /// # Errors
    /// `Invalid` for an option that this spacing does not have, for 0 steps, for a shift that is
    /// not a positive number, and for a list of levels that is not a schedule of `steps` steps.
    pub fn table(&self, levels: NoiseLevels, steps: u32, shift: f64) -> Result<SigmaTable> {
        self.fits_spacing()?;
        if !self.sigmas.is_empty() {
            return spacing::listed(levels, &self.sigmas, steps);
        }
        let beta = [self.beta_alpha, self.beta_beta];
        self.spacing.table(levels, self.timesteps, (steps, shift), beta)
    }

    /// The steps of `table` that are run: `start_step .. end_step`. (A second run can start with
    /// the noisy latents with which a first one ended.)
    ///
    /// # Errors
    /// `Invalid` for an empty range, or one outside the schedule.
    pub fn part(&self, table: &SigmaTable) -> Result<Range<usize>> {
        let (steps, start) = (table.steps(), self.start_step as usize);
        let end = if self.end_step == 0 { steps } else { self.end_step as usize };
        if end > steps || start >= end {
            return Err(Error::invalid(format!(
                "start_step {start} and end_step {end} are no part of a schedule of {steps} steps: \
                 give start_step < end_step <= {steps}"
            )));
        }
        Ok(start..end)
    }

    /// A notice for the user if the run does not start from pure noise.
    pub fn notice(&self, table: &SigmaTable) -> Option<String> {
        let sigma = table.sigmas.get(self.start_step as usize)?;
        (self.start_step > 0 || *sigma < NOISE).then(|| {
            format!("the run starts at sigma {sigma:.4}: it goes on from latents of that level")
        })
    }

    /// Refuses options that have no effect with these levels.
    fn fits_spacing(&self) -> Result<()> {
        let default = Self::default();
        let is_uniform = self.spacing == Spacing::Uniform;
        if !self.sigmas.is_empty() && !is_uniform {
            return Err(Error::invalid("sigmas are levels of their own: leave spacing out"));
        }
        let is_beta = matches!(self.spacing, Spacing::Beta | Spacing::BetaComfyui);
        let beta = [self.beta_alpha, self.beta_beta];
        if !is_beta && beta != [default.beta_alpha, default.beta_beta] {
            return Err(Error::invalid("beta_alpha and beta_beta belong to beta spacing alone"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wan_plugin_api::options::complete;

    use super::*;
    use crate::schedule::Grid;

    const LEVELS: NoiseLevels = NoiseLevels::of(Grid::UniPc);

    #[test]
    fn what_a_user_leaves_out_is_the_default_of_the_struct() {
        let values = complete("levels", &LevelOptions::specs(), &[].into()).unwrap();
        assert_eq!(LevelOptions::read(&values).unwrap(), LevelOptions::default());
        assert_eq!(LevelOptions::read(&[].into()).unwrap(), LevelOptions::default());
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let refused =
            |options: LevelOptions| options.table(LEVELS, 2, 3.0).map(|_| ()).unwrap_err().message;
        let beta = LevelOptions { beta_alpha: 0.5, ..Default::default() };
        assert!(refused(beta).contains("beta spacing alone"));
        let sigmas = vec![1.0, 0.5, 0.0];
        let both = LevelOptions { sigmas, spacing: Spacing::Beta, ..Default::default() };
        assert!(refused(both).contains("leave spacing out"));
    }

    #[test]
    fn a_part_has_steps_and_lies_in_the_schedule() {
        let part = |start_step: u32, end_step: u32| {
            let options = LevelOptions { start_step, end_step, ..Default::default() };
            options.part(&options.table(LEVELS, 4, 3.0).unwrap())
        };
        assert_eq!(part(0, 0).unwrap(), 0..4);
        let notice =
            |options: LevelOptions| options.notice(&options.table(LEVELS, 2, 3.0).unwrap());
        assert_eq!(notice(LevelOptions::default()), None);
        let later = notice(LevelOptions { start_step: 1, ..Default::default() });
        assert!(later.unwrap().contains("starts at sigma 0.75"));
        let lower = LevelOptions { sigmas: vec![0.5, 0.2, 0.0], ..Default::default() };
        assert!(notice(lower).unwrap().contains("sigma 0.5000"));
        assert_eq!(part(1, 3).unwrap(), 1..3);
        for (start, end) in [(4, 0), (2, 2), (3, 1), (0, 5)] {
            let message = part(start, end).unwrap_err().message;
            assert!(message.contains("schedule of 4 steps"), "{message}");
        }
    }
}
