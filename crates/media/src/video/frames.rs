//! A clip as pixels.

use crate::error::{Error, Result};

/// A clip as pixels: frames x height x width x 3, RGB, one byte per channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFrames {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl VideoFrames {
    /// A clip of `rgb`, frames x height x width x 3.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `rgb` holds one or more whole frames.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let bytes = rgb.len();
        let frame_bytes = width.saturating_mul(height).saturating_mul(3);
        if frame_bytes == 0 || bytes == 0 || !bytes.is_multiple_of(frame_bytes) {
            return Err(Error::Shape { width, height, bytes });
        }
        Ok(Self { width, height, rgb })
    }

    /// Width of a frame in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of a frame in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Number of frames, at least 1.
    pub fn frames(&self) -> usize {
        self.rgb.len() / (self.width * self.height * 3)
    }

    /// Frame `index`, counted from 0: height x width x 3 bytes.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn frame(&self, index: usize) -> &[u8] {
        let frame_bytes = self.width * self.height * 3;
        &self.rgb[index * frame_bytes..(index + 1) * frame_bytes]
    }

    /// All frames in their order, each of height x width x 3 bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.rgb.chunks_exact(self.width * self.height * 3)
    }

    /// All pixels: frames x height x width x 3 bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}
