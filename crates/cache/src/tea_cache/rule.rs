//! The choices that make up TeaCache's rule.

use serde::{Deserialize, Serialize};
use wan_plugin_api::Signal;

/// The time signal that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The time embedding, `[F, D]`.
    E,
    /// The time projection, `[F, 6, D]`.
    E0,
}

/// The evaluation that the signal is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// The previous evaluation (TeaCache, SkyReels-V2): the sum is the length of the path.
    Previous,
    /// The last computed evaluation (WanVideoWrapper): the sum is of distances from one point.
    Computed,
}

/// How a negative value of the polynomial counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// As 0.
    Clamp,
    /// As it is, which lowers the sum: as in the references.
    Reference,
}

impl Mode {
    pub(super) fn signal(self) -> Signal {
        match self {
            Self::E => Signal::TimeEmbedding,
            Self::E0 => Signal::TimeProjection,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::E => "e",
            Self::E0 => "e0",
        }
    }
}
