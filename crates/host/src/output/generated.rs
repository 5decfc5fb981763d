//! A finished video in memory.

use std::path::Path;

use wan_media::{VideoFrames, VideoTags, write_mp4};

use crate::error::{Error, Result};
use crate::output::sidecar::Sidecar;

/// Frames, and the sidecar that says how they were made.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The frames.
    pub frames: VideoFrames,
    /// How they were made.
    pub sidecar: Sidecar,
    /// What whoever asked should know.
    pub notices: Vec<String>,
}

impl Generated {
    /// Writes the video as H.264 in MP4, and the sidecar beside it: `ball.mp4`, `ball.json`.
    ///
    /// # Errors
    /// If a file cannot be written, or the size is odd, which H.264 does not hold.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (path, sidecar) = (path.as_ref(), &self.sidecar);
        let comment = serde_json::to_string(sidecar).map_err(|e| Error::invalid(e.to_string()))?;
        let tags = VideoTags {
            title: sidecar.settings.prompt.clone(),
            comment,
            description: format!("made by wan {}", sidecar.wan),
        };
        write_mp4(path, &self.frames, sidecar.settings.fps, &tags)?;
        sidecar.write(&path.with_extension("json"))
    }
}
