//! Options of a solver's own: those that several solvers have, and how values become a struct.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wan_plugin_api::{Error, OptionSpec, OptionValues, Result};

use crate::SOLVERS;

/// Form of DPM-Solver++'s second-order update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolverType {
    /// The slope at the middle of the step.
    #[default]
    Midpoint,
    /// The integral of the linear interpolant, as in Heun's method.
    Heun,
}

/// Order of a multistep solver.
pub(crate) fn order() -> OptionSpec {
    let doc = "order of a multistep solver; it rises from 1 at the start and falls to 1 at the end";
    OptionSpec::int("order", 2, (1, 3), doc)
}

/// Form of DPM-Solver++'s second-order update.
pub(crate) fn solver_type() -> OptionSpec {
    OptionSpec::choice("solver_type", &["midpoint", "heun"], "second-order update of dpm++")
}

/// Share of the noise that a stochastic step renews.
pub(crate) fn eta() -> OptionSpec {
    let doc = "noise that a stochastic step renews: 0 none, 1 as in the SDE";
    OptionSpec::float("eta", 1.0, (0.0, 1.0), doc)
}

/// The values of these options among others.
pub(crate) fn those_of(specs: &[OptionSpec], values: &OptionValues) -> OptionValues {
    let own = values.iter().filter(|(name, _)| specs.iter().any(|spec| spec.name == **name));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Values as a struct of options.
///
/// # Errors
/// `Invalid`, with what does not fit; `of` is whose options they are.
pub fn read_options<T: DeserializeOwned>(of: &str, values: OptionValues) -> Result<T> {
    serde_json::from_value(Value::Object(values.into_iter().collect()))
        .map_err(|error| Error::invalid(format!("options of {of}: {error}")))
}

/// `Invalid`: a value of an option that `solver` does not have.
pub(crate) fn without_effect(solver: &str, option: &str, value: &Value) -> Error {
    let has = |specs: Vec<OptionSpec>| specs.iter().any(|spec| spec.name == option);
    let with = SOLVERS.iter().filter(|entry| has(entry.options_in_forcing()));
    let with: Vec<&str> = with.map(|entry| entry.id()).collect();
    let value = value.as_str().map_or_else(|| value.to_string(), String::from);
    Error::invalid(match option {
        "order" => no_such_order(solver, &value),
        "solver_type" => format!("solver_type {value} is a form of {} alone", listed(&with, "and")),
        _ => {
            let solvers = if with.len() == 1 { "solver" } else { "solvers" };
            format!("{option} is a question of {solvers} {} alone", listed(&with, "and"))
        }
    })
}

/// What is said of an order that `solver` does not have.
pub(crate) fn no_such_order(solver: &str, order: impl std::fmt::Display) -> String {
    format!(
        "order {order} with solver {solver}, which has no such order: choose unipc, dpm++, deis or \
         sa-ode"
    )
}

fn listed(words: &[&str], last: &str) -> String {
    match words {
        [all @ .., end] if !all.is_empty() => format!("{} {last} {end}", all.join(", ")),
        _ => words.concat(),
    }
}
