//! Solvers of libraries are not lent: only the sampler that is made of one can use it.

use serde_json::Value;
use wan_plugin_api::{Error, OptionValues};

/// The option by which samplers offer a choice of solvers.
const OPTION: &str = "solver";

/// The solvers of all libraries, by id.
#[derive(Debug, Clone, Default)]
pub(super) struct LentSolvers(pub(super) Vec<String>);

impl LentSolvers {
    /// `error`, or what to do instead where one of these values asks for the solver of a library.
    pub(super) fn instead_of(&self, error: Error, given: &OptionValues) -> Error {
        match given.get(OPTION).and_then(Value::as_str) {
            Some(asked) => self.instead(error, OPTION, asked),
            None => error,
        }
    }

    /// The same for one option.
    pub(super) fn instead(&self, error: Error, option: &str, asked: &str) -> Error {
        if option != OPTION || !self.0.iter().any(|id| id == asked) {
            return error;
        }
        Error::invalid(format!(
            "{OPTION} {asked} is that of a library: `sampler` {asked} moves all frames together by \
             it, and no other sampler can use it; for diffusion forcing by a solver of your own, \
             write a library on the crate wan-diffusion-forcing (docs/writing-a-plugin.md)"
        ))
    }
}
