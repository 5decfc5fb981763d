//! The kinds of strategies.

use serde::Serialize;
use wan_plugin_api::{PluginDescription, Strategy};

/// Which kind of strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sampler.
    Sampler,
    /// A step cache.
    Cache,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sampler, Self::Cache];

    /// The strategies of this kind.
    pub fn of(self, description: &PluginDescription) -> &[Strategy] {
        match self {
            Self::Sampler => &description.samplers,
            Self::Cache => &description.caches,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sampler => "sampler",
            Self::Cache => "cache",
        }
    }
}
