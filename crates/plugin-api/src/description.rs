//! What a plugin tells the host about itself.

use serde::{Deserialize, Serialize};

use crate::OptionSpec;

/// The description of a plugin, as `describe` returns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginDescription {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// The samplers.
    pub samplers: Vec<Strategy>,
    /// The caches.
    pub caches: Vec<Strategy>,
}

/// The description of one sampler or cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// Id, unique among all samplers or all caches.
    pub id: String,
    /// One line for `wan plugins list`.
    pub doc: String,
    /// The options that it takes.
    pub options: Vec<OptionSpec>,
    /// Ids of the extensions that it answers.
    pub extensions: Vec<String>,
}
