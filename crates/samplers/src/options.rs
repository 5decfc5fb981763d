//! What a user can say about solvers, in one place for every sampler that is built on them.

use std::sync::Arc;

use serde::Deserialize;
use wan_plugin_api::{Error, OptionSpec, Result};

use crate::{
    DpmMultistep, Euler, FirstCorrection, SigmaTable, Solver, SolverKind, SolverType, TimestepRule,
    UniPc,
};

/// A solver and its settings.
///
/// A sampler that offers them lists [`specs`](Self::specs) among its options and has this struct,
/// flattened, among its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SolverOptions {
    /// Which solver.
    pub solver: SolverKind,
    /// Order of the multistep solvers, 1 to 3.
    pub order: u32,
    /// Form of DPM-Solver++'s second-order update.
    pub solver_type: SolverType,
    /// Spacing of noise levels and timesteps.
    pub timesteps: TimestepRule,
    /// Where UniPC's first correction starts; a question in diffusion forcing alone.
    pub first_correction: FirstCorrection,
}

impl Default for SolverOptions {
    fn default() -> Self {
        Self {
            solver: SolverKind::default(),
            order: 2,
            solver_type: SolverType::default(),
            timesteps: TimestepRule::default(),
            first_correction: FirstCorrection::default(),
        }
    }
}

impl SolverOptions {
    /// All options, the choice of the solver among them.
    pub fn specs() -> Vec<OptionSpec> {
        vec![
            OptionSpec::choice("solver", &["unipc", "dpm++", "euler"], "how a frame moves"),
            order(),
            solver_type(),
            timesteps(),
            first_correction(),
        ]
    }

    /// The options of one solver.
    pub fn specs_of(solver: SolverKind) -> Vec<OptionSpec> {
        match solver {
            SolverKind::UniPc => vec![order(), timesteps()],
            SolverKind::DpmPlusPlus => vec![order(), solver_type(), timesteps()],
            SolverKind::Euler => vec![timesteps()],
        }
    }

    /// The noise levels of a run.
    ///
    /// # Errors
    /// `Invalid` for a setting that this solver does not have, for no steps, or for a shift that is
    /// not a positive number.
    pub fn table(&self, steps: u32, shift: f64) -> Result<Arc<SigmaTable>> {
        if self.solver == SolverKind::Euler && self.order > Self::default().order {
            return Err(Error::invalid(format!(
                "order {} with solver euler, which is of order 1: choose unipc or dpm++",
                self.order
            )));
        }
        if self.solver != SolverKind::UniPc && self.first_correction != FirstCorrection::Exact {
            return Err(Error::invalid("first_correction is a question of solver unipc alone"));
        }
        if self.solver != SolverKind::DpmPlusPlus && self.solver_type != SolverType::default() {
            return Err(Error::invalid("solver_type heun is a form of solver dpm++ alone"));
        }
        SigmaTable::new(self.solver, self.timesteps, steps, shift).map(Arc::new)
    }

    /// A solver at the start of `table`, with an empty history.
    pub fn solver(&self, table: &Arc<SigmaTable>) -> Box<dyn Solver> {
        let (table, order) = (table.clone(), self.order.clamp(1, 3) as usize);
        match self.solver {
            SolverKind::UniPc => Box::new(UniPc::new(table, order, self.first_correction)),
            SolverKind::DpmPlusPlus => Box::new(DpmMultistep::new(table, order, self.solver_type)),
            SolverKind::Euler => Box::new(Euler::new(table)),
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

fn timesteps() -> OptionSpec {
    let doc = "spacing of noise levels: as in diffusers, or as in Wan's own repository";
    OptionSpec::choice("timesteps", &["diffusers", "wan"], doc)
}

fn first_correction() -> OptionSpec {
    let doc = "unipc's first correction: from the true sample, or as the references do";
    OptionSpec::choice("first_correction", &["exact", "overwritten"], doc)
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
        for solver in [SolverKind::UniPc, SolverKind::DpmPlusPlus, SolverKind::Euler] {
            let values = complete("s", &SolverOptions::specs_of(solver), &[].into()).unwrap();
            let options: SolverOptions = serde_json::from_value(json!(values)).unwrap();
            assert_eq!(options, SolverOptions::default());
        }
    }

    #[test]
    fn settings_without_effect_are_refused() {
        for given in [
            [("solver", json!("euler")), ("order", json!(3))],
            [("solver", json!("unipc")), ("solver_type", json!("heun"))],
        ] {
            assert!(read(&given).table(4, 3.0).is_err());
        }
        let given = [("solver", json!("dpm++")), ("solver_type", json!("heun"))];
        assert_eq!(read(&given).table(4, 3.0).unwrap().steps(), 4);
    }
}
