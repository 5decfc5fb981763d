//! Spacings that are independent of the solver: beta spacing and the levels of distilled models.

use serde::Deserialize;
use wan_plugin_api::{Error, Result};

use crate::beta;
use crate::schedule::{
    self, NoiseLevels, SigmaTable, TRAINING_STEPS, TimestepRule, linspace, of_f32, shifted,
    training_ends,
};

/// The spacing of the noise levels of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// That of the solver's own scheduler: equal steps before the shift.
    #[default]
    Uniform,
    /// Quantiles of a beta distribution between the shifted ends (Lee et al. 2024, "Beta Sampling
    /// is All You Need"), as in diffusers 0.42: `FlowMatchEulerDiscreteScheduler` with
    /// `use_beta_sigmas`. The shift applies to the ends alone.
    Beta,
    /// Quantiles of a beta distribution, rounded to a training step and then shifted, as in
    /// ComfyUI: `beta_scheduler` in `comfy/samplers.py`. Two that round to the same level become
    /// one step.
    BetaComfyui,
    /// CausVid's nine timesteps for the 14B model, as in kijai/ComfyUI-WanVideoWrapper (commit
    /// 23d3636, `wanvideo/schedulers/__init__.py`).
    #[serde(rename = "causvid-9")]
    CausVid9,
    /// CausVid's four timesteps for the 1.3B model, from the same source.
    #[serde(rename = "causvid-4")]
    CausVid4,
    /// LightX2V's four steps, shifted (ModelTC/LightX2V, commit f8aee98,
    /// `WanStepDistillScheduler`).
    #[serde(rename = "lightx2v-4")]
    LightX2v4,
    /// LightX2V's four steps as in ComfyUI-WanVideoWrapper (23d3636): `flowmatch_distill`, from
    /// 999.
    #[serde(rename = "flowmatch-distill")]
    FlowMatchDistill,
}

impl Spacing {
    /// The names of all spacings, in the order of the variants.
    pub const NAMES: [&str; 7] = [
        "uniform",
        "beta",
        "beta-comfyui",
        "causvid-9",
        "causvid-4",
        "lightx2v-4",
        "flowmatch-distill",
    ];

    /// The table for a solver with such levels; `beta` has the two parameters of the distribution.
    pub(crate) fn table(
        self,
        levels: NoiseLevels,
        rule: TimestepRule,
        (steps, shift): (u32, f64),
        beta: [f64; 2],
    ) -> Result<SigmaTable> {
        schedule::check(steps, shift)?;
        let distilled = match self {
            Self::Uniform => return SigmaTable::new(levels, rule, steps, shift),
            Self::Beta => {
                let sigmas = beta_of_diffusers(steps as usize, shift, beta);
                return Ok(SigmaTable::of_sigmas(levels, sigmas));
            }
            Self::BetaComfyui => {
                let sigmas = beta_of_comfyui(steps as usize, shift, beta);
                return Ok(SigmaTable::of_sigmas(levels, sigmas));
            }
            Self::CausVid9 => &[999.0, 934.0, 862.0, 756.0, 603.0, 410.0, 250.0, 140.0, 74.0][..],
            Self::CausVid4 | Self::LightX2v4 => &[1000.0, 750.0, 500.0, 250.0],
            Self::FlowMatchDistill => &[999.0, 750.0, 500.0, 250.0],
        };
        let shift = match self {
            Self::CausVid9 | Self::CausVid4 => 1.0,
            _ => shift,
        };
        same_steps(distilled.len(), steps, "this spacing")?;
        let sigmas = distilled.iter().map(|timestep| shifted(timestep / TRAINING_STEPS, shift));
        Ok(of_f32(&sigmas.collect::<Vec<_>>()).below_pure_noise(levels))
    }
}

/// The table of sigmas listed by the user, including the last.
pub(crate) fn listed(levels: NoiseLevels, sigmas: &[f64], steps: u32) -> Result<SigmaTable> {
    let wrong = |what: String| Err(Error::invalid(format!("sigmas {sigmas:?}: {what}")));
    if sigmas.len() < 2 {
        return wrong("give the level at the start of each step, and the one at the end".into());
    }
    if let Some(sigma) = sigmas.iter().find(|sigma| !(0.0..=1.0).contains(*sigma)) {
        return wrong(format!("{sigma} is not a noise fraction from 0 to 1"));
    }
    if !sigmas.is_sorted_by(|a, b| a > b) {
        return wrong("they must fall from each to the next".into());
    }
    same_steps(sigmas.len() - 1, steps, "a list of sigmas")?;
    Ok(SigmaTable::of_written(levels, sigmas.to_vec()))
}

/// A schedule must have the requested number of steps.
fn same_steps(listed: usize, steps: u32, what: &str) -> Result<()> {
    if listed == steps as usize {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} has {listed} steps, and {steps} are asked for: give --sample_steps {listed}"
    )))
}

fn beta_of_diffusers(steps: usize, shift: f64, [a, b]: [f64; 2]) -> Vec<f64> {
    // diffusers shifts the ends of its constructor a second time.
    let [first, last] = training_ends(shift).map(|sigma| shifted(sigma, shift));
    let quantiles = linspace(0.0, 1.0, steps).into_iter().map(|p| beta::quantile(1.0 - p, a, b));
    quantiles.map(|q| last + q * (first - last)).chain([0.0]).collect()
}

fn beta_of_comfyui(steps: usize, shift: f64, [a, b]: [f64; 2]) -> Vec<f64> {
    let level = |step: usize| {
        let quantile = beta::quantile(1.0 - step as f64 / steps as f64, a, b);
        (quantile * (TRAINING_STEPS - 1.0)).round_ties_even()
    };
    let mut levels: Vec<f64> = (0..steps).map(level).collect();
    levels.dedup();
    let sigmas = levels.iter().map(|level| shifted((level + 1.0) / TRAINING_STEPS, shift));
    sigmas.chain([0.0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deis, Euler, Lcm, NamedSolver, SaOde, UniPc};

    fn table(spacing: Spacing, levels: NoiseLevels, steps: u32, shift: f64) -> Result<SigmaTable> {
        spacing.table(levels, TimestepRule::Diffusers, (steps, shift), [0.6, 0.6])
    }

    fn near(ours: &[f64], expected: &[f64]) {
        assert_eq!(ours.len(), expected.len(), "{ours:?}");
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-4, "{ours}, not {expected}");
        }
    }

    #[test]
    fn distilled_models_have_the_levels_that_they_were_distilled_for() {
        let euler = |spacing, steps, shift| table(spacing, Euler::LEVELS, steps, shift).unwrap();
        let nine = [999.0, 934.0, 862.0, 756.0, 603.0, 410.0, 250.0, 140.0, 74.0];
        near(&euler(Spacing::CausVid9, 9, 8.0).timesteps, &nine);
        near(&euler(Spacing::CausVid4, 4, 8.0).timesteps, &[1000.0, 750.0, 500.0, 250.0]);
        // shift 5: s -> 5 s / (1 + 4 s)
        let four = euler(Spacing::LightX2v4, 4, 5.0);
        near(&four.timesteps, &[1000.0, 937.5, 833.33333, 625.0]);
        near(&four.sigmas, &[1.0, 0.9375, 0.833333, 0.625, 0.0]);
        let distill = euler(Spacing::FlowMatchDistill, 4, 5.0);
        near(&distill.timesteps, &[999.79984, 937.5, 833.33333, 625.0]);
        let unipc = table(Spacing::LightX2v4, UniPc::LEVELS, 4, 5.0).unwrap();
        assert!(unipc.sigmas[0] < 1.0 && unipc.timesteps == four.timesteps);
    }

    /// `beta_scheduler(model_sampling, 8)` over a flow of shift 8, computed with scipy 1.17.1.
    #[test]
    fn beta_of_comfyui_rounds_before_the_shift() {
        let ours = table(Spacing::BetaComfyui, Euler::LEVELS, 8, 8.0).unwrap();
        near(
            &ours.sigmas,
            &[1.0, 0.992501, 0.973995, 0.94225, 0.889283, 0.797583, 0.632425, 0.330014, 0.0],
        );
        let many = table(Spacing::BetaComfyui, Euler::LEVELS, 400, 8.0).unwrap();
        assert!(many.steps() < 400 && many.sigmas.is_sorted_by(|a, b| a > b));
    }

    /// With so small a second parameter more than one quantile rounds to 1.
    #[test]
    fn no_level_stands_above_the_one_before_it() {
        for levels in [UniPc::LEVELS, Deis::LEVELS, SaOde::LEVELS, Euler::LEVELS] {
            for spacing in [Spacing::Beta, Spacing::BetaComfyui] {
                let rule = TimestepRule::Diffusers;
                let table = spacing.table(levels, rule, (8, 3.0), [3.4, 0.1]).unwrap();
                assert!(table.sigmas.is_sorted_by(|a, b| a >= b), "{:?}", table.sigmas);
                assert!(levels == Euler::LEVELS || table.sigmas[0] < 1.0);
            }
        }
    }

    #[test]
    fn lists_that_cannot_be_followed_are_refused() {
        let refused = |sigmas: &[f64], steps| {
            listed(Euler::LEVELS, sigmas, steps).map(|_| ()).unwrap_err().message
        };
        assert!(refused(&[1.0], 1).contains("the one at the end"));
        assert!(refused(&[1.2, 0.0], 1).contains("1.2 is not a noise fraction"));
        assert!(refused(&[0.5, f64::NAN], 1).contains("NaN is not"));
        assert!(refused(&[0.5, 0.6, 0.0], 2).contains("must fall"));
        assert!(refused(&[0.8, 0.5, 0.0], 3).contains("--sample_steps 2"));
        let message = table(Spacing::CausVid9, Lcm::LEVELS, 50, 8.0).unwrap_err().message;
        assert!(
            message.contains("9 steps, and 50 are asked for: give --sample_steps 9"),
            "{message}"
        );
        let part = listed(UniPc::LEVELS, &[0.75, 0.5, 0.25], 2).unwrap();
        assert_eq!(
            (&part.sigmas[..], &part.timesteps[..]),
            (&[0.75, 0.5, 0.25][..], &[750., 500.][..])
        );
    }

    #[test]
    fn every_name_is_a_spacing() {
        for name in Spacing::NAMES {
            serde_json::from_value::<Spacing>(serde_json::json!(name)).unwrap();
        }
    }
}
