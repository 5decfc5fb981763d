//! One chunk of a video, and the ratio of pixel frames to latent frames.

use crate::matrix::Layout;

/// A range of latent frames with its own timestep matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Number in the video of its first latent frame.
    pub(crate) first: usize,
    /// Frames after the prefix that the previous chunk has finished and this one samples again.
    pub(crate) resampled: usize,
    /// Its frames, counted from `first`.
    pub(crate) layout: Layout,
}

impl Chunk {
    /// Frames that the previous chunk has finished.
    pub(crate) fn overlap(&self) -> usize {
        self.layout.prefix_frames + self.resampled
    }
}

/// Pixel frames per latent frame, except for the first, which has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TemporalScale(pub(crate) usize);

impl TemporalScale {
    /// Latent frames that are needed for this many pixel frames.
    pub(crate) fn latent_frames(self, pixel_frames: usize) -> usize {
        pixel_frames.div_ceil(self.0)
    }

    /// Pixel frames of this many latent frames, at least one.
    pub(crate) fn pixel_frames(self, latent_frames: usize) -> usize {
        self.0 * (latent_frames - 1) + 1
    }
}
