//! What is done with numbers that no video has.

use serde::{Deserialize, Serialize};

/// What a run does when a round ends with a number that is not finite, or with a latent frame whose
/// numbers are all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// It ends, with an error that names where they came from.
    #[default]
    Stop,
    /// It says so, once, and goes on.
    Warn,
}

impl OnNan {
    /// `stop` or `warn`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "stop" => Some(Self::Stop),
            "warn" => Some(Self::Warn),
            _ => None,
        }
    }

    pub(crate) fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}
