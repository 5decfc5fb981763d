//! A strategy that somebody names.

use serde::{Deserialize, Serialize};
use wan_plugin_api::OptionValues;

/// A sampler or cache by name, with the options that the user (or the model folder) gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrategyChoice {
    /// Its id.
    pub id: String,
    /// Options that differ from its defaults, or all of them.
    pub options: OptionValues,
}
