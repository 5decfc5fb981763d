//! The options of the solvers, shared by all samplers that are built on them.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{Error, OptionSpec, Result};

use crate::{
    Deis, DpmMultistep, DpmSde, Euler, EulerAncestral, FirstCorrection, Heun, Lcm, ResMultistep,
    SaOde, SaWeights, SigmaTable, Solver, SolverKind, SolverType, Spacing, TimestepRule, UniPc,
    spacing,
};

/// A first sigma from here on counts as pure noise, however a grid rounds it.
const NOISE: f64 = 0.99;

/// The choice of a solver, its options and its noise levels.
///
/// A sampler that offers them lists [`specs`](Self::specs) among its options, and has this struct,
/// flattened, in its own options struct.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct SolverOptions {
    /// The solver.
    pub solver: SolverKind,
    /// Order of the multistep solvers, 1 to 3.
    pub order: u32,
    /// Form of DPM-Solver++'s second-order update.
    pub solver_type: SolverType,
    /// Start of UniPC's first correction; matters in diffusion forcing alone.
    pub first_correction: FirstCorrection,
    /// Weights of two predictions in SA-ODE.
    pub sa_weights: SaWeights,
    /// Share of the noise that a stochastic step renews: 0 none, as in the flow; 1 as in the SDE.
    pub eta: f64,
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

impl Default for SolverOptions {
    fn default() -> Self {
        Self {
            solver: SolverKind::default(),
            order: 2,
            solver_type: SolverType::default(),
            first_correction: FirstCorrection::default(),
            sa_weights: SaWeights::default(),
            eta: 1.0,
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

impl SolverOptions {
    /// All options, including the choice of the solver.
    pub fn specs() -> Vec<OptionSpec> {
        let solver = OptionSpec::choice("solver", &SolverKind::NAMES, "how a frame moves");
        let mut specs = vec![solver, order(), solver_type(), first_correction()];
        specs.extend([sa_weights(), eta()]);
        specs.extend(schedule());
        specs
    }

    /// The options of one solver.
    pub fn specs_of(solver: SolverKind) -> Vec<OptionSpec> {
        let mut specs = match solver {
            SolverKind::UniPc | SolverKind::Deis => vec![order()],
            SolverKind::SaOde => vec![order(), sa_weights()],
            SolverKind::DpmPlusPlus => vec![order(), solver_type()],
            SolverKind::DpmPlusPlusSde => vec![order(), solver_type(), eta()],
            SolverKind::EulerAncestral => vec![eta()],
            SolverKind::Euler | SolverKind::Heun => vec![],
            SolverKind::Lcm | SolverKind::ResMultistep => vec![],
        };
        specs.extend(schedule());
        specs
    }

    /// The noise levels of the whole schedule; [`part`](Self::part) of it is run.
    ///
    /// # Errors
    /// `Invalid` for an option that this solver or spacing does not have, for 0 steps, for a shift
    /// that is not a positive number, and for a list of levels that is not a schedule of `steps`
    /// steps.
    pub fn table(&self, steps: u32, shift: f64) -> Result<Arc<SigmaTable>> {
        self.fits_solver()?;
        self.fits_spacing()?;
        let table = if self.sigmas.is_empty() {
            let beta = [self.beta_alpha, self.beta_beta];
            self.spacing.table(self.solver, self.timesteps, (steps, shift), beta)?
        } else {
            spacing::listed(self.solver, &self.sigmas, steps)?
        };
        Ok(Arc::new(table))
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

    /// A solver with an empty history, for a sample whose first frame is frame 0 of the video.
    pub fn solver(&self, table: &Arc<SigmaTable>) -> Box<dyn Solver> {
        self.solver_from(table, 0)
    }

    /// A solver with an empty history, for a sample whose first frame is `first_frame` of the
    /// video. The number of a frame determines the noise of stochastic solvers.
    pub fn solver_from(&self, table: &Arc<SigmaTable>, first_frame: u32) -> Box<dyn Solver> {
        let (table, order) = (table.clone(), self.order.clamp(1, 3) as usize);
        let (form, eta) = (self.solver_type, self.eta);
        match self.solver {
            SolverKind::UniPc => Box::new(UniPc::new(table, order, self.first_correction)),
            SolverKind::DpmPlusPlus => Box::new(DpmMultistep::new(table, order, form)),
            SolverKind::Euler => Box::new(Euler::new(table)),
            SolverKind::Heun => Box::new(Heun::new(table)),
            SolverKind::EulerAncestral => Box::new(EulerAncestral::new(table, eta, first_frame)),
            SolverKind::DpmPlusPlusSde => {
                Box::new(DpmSde::new(table, order, form, eta, first_frame))
            }
            SolverKind::Deis => Box::new(Deis::new(table, order)),
            SolverKind::Lcm => Box::new(Lcm::new(table, first_frame)),
            SolverKind::ResMultistep => Box::new(ResMultistep::new(table)),
            SolverKind::SaOde => Box::new(SaOde::new(table, order, self.sa_weights)),
        }
    }

    /// Refuses options that have no effect with this solver.
    fn fits_solver(&self) -> Result<()> {
        let (default, solver) = (Self::default(), self.solver);
        let order_max = match solver {
            SolverKind::UniPc | SolverKind::DpmPlusPlus => 3,
            SolverKind::Deis | SolverKind::SaOde => 3,
            _ => default.order, // solvers without the option get its default
        };
        if self.order > order_max {
            return Err(Error::invalid(format!(
                "order {} with solver {}, which has no such order: choose unipc, dpm++, deis or \
                 sa-ode",
                self.order,
                solver.name()
            )));
        }
        if solver != SolverKind::UniPc && self.first_correction != default.first_correction {
            return Err(Error::invalid("first_correction is a question of solver unipc alone"));
        }
        if solver != SolverKind::SaOde && self.sa_weights != default.sa_weights {
            return Err(Error::invalid("sa_weights is a question of solver sa-ode alone"));
        }
        let is_dpm = matches!(solver, SolverKind::DpmPlusPlus | SolverKind::DpmPlusPlusSde);
        if !is_dpm && self.solver_type != default.solver_type {
            return Err(Error::invalid("solver_type heun is a form of dpm++ and dpm++-sde alone"));
        }
        let has_eta = matches!(solver, SolverKind::EulerAncestral | SolverKind::DpmPlusPlusSde);
        if !has_eta && self.eta != default.eta {
            return Err(Error::invalid(
                "eta is a question of solvers euler-ancestral and dpm++-sde alone",
            ));
        }
        Ok(())
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

impl SolverKind {
    /// Model evaluations of step `index` of `table`: 1, or 2 where [`Solver::correct`] follows
    /// [`Solver::step`].
    pub fn evaluations(self, table: &SigmaTable, index: usize) -> u32 {
        match self {
            Self::Heun => Heun::evaluations(table, index),
            _ => 1,
        }
    }
}

fn order() -> OptionSpec {
    let doc = "order of a multistep solver; it rises from 1 at the start and falls to 1 at the end";
    OptionSpec::int("order", i64::from(SolverOptions::default().order), (1, 3), doc)
}

fn solver_type() -> OptionSpec {
    OptionSpec::choice("solver_type", &["midpoint", "heun"], "second-order update of dpm++")
}

fn first_correction() -> OptionSpec {
    let doc = "unipc's first correction: from the true sample, or as the references do";
    OptionSpec::choice("first_correction", &["exact", "overwritten"], doc)
}

fn sa_weights() -> OptionSpec {
    let doc = "sa-ode's weights of two predictions: as in the paper, or as in its authors' code";
    OptionSpec::choice("sa_weights", &["exact", "authors"], doc)
}

fn eta() -> OptionSpec {
    let doc = "noise that a stochastic step renews: 0 none, 1 as in the SDE";
    OptionSpec::float("eta", SolverOptions::default().eta, (0.0, 1.0), doc)
}

fn schedule() -> Vec<OptionSpec> {
    let SolverOptions { beta_alpha, beta_beta, .. } = SolverOptions::default();
    vec![
        OptionSpec::choice(
            "timesteps",
            &["diffusers", "wan"],
            "spacing of noise levels: as in diffusers, or as in Wan's own repository",
        ),
        OptionSpec::choice("spacing", &Spacing::NAMES, "noise levels: the solver's own, or others"),
        OptionSpec::float("beta_alpha", beta_alpha, (0.1, 10.0), "first parameter of beta spacing"),
        OptionSpec::float("beta_beta", beta_beta, (0.1, 10.0), "second parameter of beta spacing"),
        OptionSpec::float_list("sigmas", "noise levels, that at the end included; not shifted"),
        OptionSpec::int("start_step", 0, (0, 1000), "first step that is taken, from 0"),
        OptionSpec::int("end_step", 0, (0, 1000), "step before which the run ends; 0: at the end"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wan_plugin_api::options::{OptionValues, complete};

    use super::*;

    fn read(given: &[(&str, serde_json::Value)]) -> SolverOptions {
        let given: OptionValues = given.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let values = complete("sampler", &SolverOptions::specs(), &given).unwrap();
        serde_json::from_value(json!(values)).unwrap()
    }

    #[test]
    fn what_a_user_leaves_out_is_the_default_of_the_struct() {
        assert_eq!(read(&[]), SolverOptions::default());
        for name in SolverKind::NAMES {
            let solver = read(&[("solver", json!(name))]).solver;
            assert_eq!(solver.name(), name);
            let values = complete("s", &SolverOptions::specs_of(solver), &[].into()).unwrap();
            let options: SolverOptions = serde_json::from_value(json!(values)).unwrap();
            assert_eq!(options, SolverOptions::default());
            SolverOptions { solver, ..options }.table(4, 3.0).unwrap();
        }
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let refused = |given: &[(&str, serde_json::Value)]| {
            read(given).table(4, 3.0).map(|_| ()).unwrap_err().message
        };
        let solver = |name: &str| ("solver", json!(name));
        assert!(refused(&[solver("euler"), ("order", json!(3))]).contains("solver euler"));
        assert!(refused(&[solver("dpm++-sde"), ("order", json!(3))]).contains("no such order"));
        assert!(refused(&[solver("unipc"), ("solver_type", json!("heun"))]).contains("dpm++"));
        assert!(refused(&[solver("lcm"), ("eta", json!(0.5))]).contains("euler-ancestral"));
        assert!(refused(&[("beta_alpha", json!(0.5))]).contains("beta spacing alone"));
        let overwritten = ("first_correction", json!("overwritten"));
        assert!(refused(&[solver("heun"), overwritten]).contains("unipc alone"));
        let both = [("sigmas", json!([1, 0.5, 0])), ("spacing", json!("beta"))];
        assert!(refused(&both).contains("leave spacing out"));
        let given = [("solver", json!("dpm++")), ("solver_type", json!("heun"))];
        assert_eq!(read(&given).table(4, 3.0).unwrap().steps(), 4);
    }

    #[test]
    fn a_part_has_steps_and_lies_in_the_schedule() {
        let part = |start: u32, end: u32| {
            let options = read(&[("start_step", json!(start)), ("end_step", json!(end))]);
            options.part(&options.table(4, 3.0).unwrap())
        };
        assert_eq!(part(0, 0).unwrap(), 0..4);
        let notice = |options: SolverOptions| options.notice(&options.table(2, 3.0).unwrap());
        assert_eq!(notice(SolverOptions::default()), None);
        let later = notice(SolverOptions { start_step: 1, ..SolverOptions::default() });
        assert!(later.unwrap().contains("starts at sigma 0.75"));
        let lower = SolverOptions { sigmas: vec![0.5, 0.2, 0.0], ..SolverOptions::default() };
        assert!(notice(lower).unwrap().contains("sigma 0.5000"));
        assert_eq!(part(1, 3).unwrap(), 1..3);
        for (start, end) in [(4, 0), (2, 2), (3, 1), (0, 5)] {
            let message = part(start, end).unwrap_err().message;
            assert!(message.contains("schedule of 4 steps"), "{message}");
        }
    }
}
