//! A choice among the built-in solvers, with their options.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use wan_plugin_api::options::complete;
use wan_plugin_api::{Error, OptionSpec, OptionValues, Result};

use crate::own_options::{those_of, without_effect};
use crate::{Descent, Entry, LevelOptions, SOLVERS, SigmaTable, Solver};

/// Name of the option that chooses the solver.
const SOLVER: &str = "solver";

/// A solver, its options and its noise levels.
///
/// A sampler that offers them lists [`specs`](Self::specs) among its options. Deserialised from any
/// values that have these among them; what is missing is at its default.
#[derive(Debug, Clone, PartialEq)]
pub struct SolverOptions {
    /// The solver.
    pub solver: Entry,
    /// Values of the options of all solvers. One that the solver does not have is at its default,
    /// or refused.
    pub own: OptionValues,
    /// The noise levels.
    pub levels: LevelOptions,
}

impl SolverOptions {
    /// All options: the choice of the solver, those of every solver and those of the noise levels.
    pub fn specs() -> Vec<OptionSpec> {
        let ids: Vec<&str> = SOLVERS.iter().map(Entry::id).collect();
        let mut specs = vec![OptionSpec::choice(SOLVER, &ids, "how a frame moves")];
        specs.extend(own_specs());
        specs.extend(LevelOptions::specs());
        specs
    }

    /// Reads the options among others.
    ///
    /// # Errors
    /// `Invalid` for a value that does not fit.
    pub fn read(values: &OptionValues) -> Result<Self> {
        let specs = Self::specs();
        let values = complete(SOLVER, &specs, &those_of(&specs, values))?;
        let id = values.get(SOLVER).and_then(Value::as_str).unwrap_or_default();
        let solver = SOLVERS.iter().find(|entry| entry.id() == id);
        let solver = *solver.ok_or_else(|| Error::invalid(format!("there is no solver {id}")))?;
        let own = those_of(&own_specs(), &values);
        Ok(Self { solver, own, levels: LevelOptions::read(&values)? })
    }

    /// The noise levels of the whole schedule.
    ///
    /// # Errors
    /// `Invalid` for an option that this solver does not have, and the errors of
    /// [`LevelOptions::table`].
    pub fn table(&self, steps: u32, shift: f64) -> Result<Arc<SigmaTable>> {
        self.fits_solver()?;
        Ok(Arc::new(self.levels.table(self.solver.levels(), steps, shift)?))
    }

    /// A solver with an empty history, for a sample whose first frame is `first_frame` of the
    /// video.
    ///
    /// # Errors
    /// `Invalid` for options that do not fit each other.
    pub fn solver(&self, table: &Arc<SigmaTable>, first_frame: u32) -> Result<Box<dyn Solver>> {
        self.solver.make(&self.own, table.clone(), first_frame)
    }

    /// The way down the levels.
    ///
    /// # Errors
    /// Those of [`table`](Self::table), [`solver`](Self::solver) and [`LevelOptions::part`].
    pub fn descent(&self, steps: u32, shift: f64) -> Result<Descent> {
        let (solver, own) = (self.solver, self.own.clone());
        let make = move |table: &Arc<SigmaTable>, first| solver.make(&own, table.clone(), first);
        Descent::new(self.table(steps, shift)?, &self.levels, make)
    }

    /// Refuses options that have no effect with this solver.
    fn fits_solver(&self) -> Result<()> {
        let (all, has) = (own_specs(), self.solver.options_in_forcing());
        let others = all.iter().filter(|spec| has.iter().all(|own| own.name != spec.name));
        for OptionSpec { name, default, .. } in others {
            match self.own.get(name) {
                Some(value) if !is_same(value, default) => {
                    return Err(without_effect(self.solver.id(), name, value));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for SolverOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let values = OptionValues::deserialize(deserializer)?;
        Self::read(&values).map_err(|error| D::Error::custom(error.message))
    }
}

/// The options of all solvers. Those of several by one name are one option.
fn own_specs() -> Vec<OptionSpec> {
    let mut specs: Vec<OptionSpec> = Vec::new();
    for spec in SOLVERS.iter().flat_map(Entry::options_in_forcing) {
        if specs.iter().all(|other| other.name != spec.name) {
            specs.push(spec);
        }
    }
    specs
}

/// Whether two values mean the same: 1 is 1.0.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(given: &[(&str, Value)]) -> SolverOptions {
        let given: OptionValues = given.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let values = complete("sampler", &SolverOptions::specs(), &given).unwrap();
        serde_json::from_value(json!(values)).unwrap()
    }

    #[test]
    fn the_choice_has_every_solver_and_every_option_once() {
        let names: Vec<String> = SolverOptions::specs().into_iter().map(|s| s.name).collect();
        let levels = "timesteps spacing beta_alpha beta_beta sigmas start_step end_step";
        let expected = "solver order first_correction solver_type eta sa_weights";
        assert_eq!(names.join(" "), format!("{expected} {levels}"));
        for entry in SOLVERS {
            let options = read(&[("solver", json!(entry.id()))]);
            assert_eq!(options.solver, *entry);
            options.descent(4, 3.0).unwrap();
        }
        let same_name = SOLVERS.iter().flat_map(Entry::options_in_forcing);
        for spec in same_name {
            assert!(SolverOptions::specs().contains(&spec), "two meanings of {}", spec.name);
        }
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let refused =
            |given: &[(&str, Value)]| read(given).descent(4, 3.0).map(|_| ()).unwrap_err().message;
        let solver = |name: &str| ("solver", json!(name));
        for (given, expected) in [
            (
                [solver("euler"), ("order", json!(3))],
                "order 3 with solver euler, which has no such order: choose unipc, dpm++, deis or \
                 sa-ode",
            ),
            (
                [solver("dpm++-sde"), ("order", json!(3))],
                "order 3 with solver dpm++-sde, which has no such order: choose unipc, dpm++, deis \
                 or sa-ode",
            ),
            (
                [solver("unipc"), ("solver_type", json!("heun"))],
                "solver_type heun is a form of dpm++ and dpm++-sde alone",
            ),
            (
                [solver("lcm"), ("eta", json!(0.5))],
                "eta is a question of solvers euler-ancestral, dpm++-sde and dpm++-3m-sde alone",
            ),
            (
                [solver("heun"), ("first_correction", json!("overwritten"))],
                "first_correction is a question of solver unipc alone",
            ),
            (
                [solver("deis"), ("sa_weights", json!("authors"))],
                "sa_weights is a question of solver sa-ode alone",
            ),
        ] {
            assert_eq!(refused(&given), expected);
        }
        let given = [("solver", json!("dpm++")), ("solver_type", json!("heun"))];
        assert_eq!(read(&given).table(4, 3.0).unwrap().steps(), 4);
        // The default, however it is written.
        read(&[solver("lcm"), ("eta", json!(1))]).descent(4, 3.0).unwrap();
    }
}
