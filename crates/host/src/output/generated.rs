//! A finished video in memory.

use std::path::Path;

use wan_media::{VideoFrames, encode_mp4};
use wan_outputs::{Claim, Outputs, Wanted};

use crate::error::Result;
use crate::output::container_tags::Metadata;
use crate::output::sidecar::{SIDECAR_BYTES, Sidecar};

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
    /// Writes the video as H.264 in MP4, and the sidecar beside it: `ball.mp4`, `ball.json`. A
    /// video with its sidecar that was there is replaced.
    ///
    /// # Errors
    /// If a file cannot be written, one is there that this program did not make, or the size is odd,
    /// which H.264 does not hold.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut outputs = Outputs::default();
        let [video, sidecar] = Self::wanted(path.as_ref(), 0);
        let (video, sidecar) = (outputs.claim(&video)?, outputs.claim(&sidecar)?);
        self.save_to(video, sidecar, Metadata::default())
    }

    /// What [`save`](Self::save) writes: the video, of about so many bytes, and the sidecar.
    pub fn wanted(path: &Path, bytes: u64) -> [Wanted; 2] {
        let (field, sidecar) = ("save_file".to_string(), path.with_extension("json"));
        let is_ours = |video: &Path| Sidecar::is_one(&video.with_extension("json"));
        let (path, temporary_in) = (path.into(), None);
        let video = Wanted { field: field.clone(), path, is_ours, bytes, temporary_in };
        let (is_ours, bytes) = (Sidecar::is_one as fn(&Path) -> bool, SIDECAR_BYTES);
        [video, Wanted { field, path: sidecar, is_ours, bytes, temporary_in: None }]
    }

    /// As [`save`](Self::save), to files that were claimed before, with these tags.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_to(&self, video: Claim, sidecar: Claim, metadata: Metadata) -> Result<()> {
        let report = &self.sidecar;
        let mp4 = encode_mp4(&self.frames, report.settings.fps, &metadata.tags(report))?;
        // The video comes last: where it is, all is there.
        report.save_to(sidecar)?;
        video.write(&mp4)?;
        Ok(())
    }
}
