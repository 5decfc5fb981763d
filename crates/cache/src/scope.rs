//! Which latent frames count in a measurement.
//!
//! In diffusion forcing the references average over all frames of the window. Frames that are not
//! updated (a clean prefix, finished or waiting blocks) do not change, so they dilute the average:
//! a run that extends a video reuses far more than the first run at the same timesteps
//! (ComfyUI-WanVideoWrapper issue 484).

use serde::{Deserialize, Serialize};
use wan_plugin_api::{FrameLevel, OptionSpec};

/// The latent frames that count in a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Frames that this round updates.
    UpdatedFrames,
    /// All frames of the window, as in the references.
    AllFrames,
}

impl Scope {
    pub(crate) fn spec() -> OptionSpec {
        OptionSpec::choice("scope", &["updated-frames", "all-frames"], "frames that count")
    }

    /// Whether each frame counts.
    pub(crate) fn counts(self, levels: &[FrameLevel]) -> Vec<bool> {
        levels.iter().map(|level| self == Self::AllFrames || level.update).collect()
    }
}

/// Sum over the frames that count.
pub(crate) fn total(of: &[f64], counts: &[bool]) -> f64 {
    of.iter().zip(counts).filter(|(_, counts)| **counts).map(|(v, _)| v).sum()
}
