//! Frames as H.264 in MP4 and as a PNG contact sheet.
//!
//! H.264 comes from OpenH264 (built from its bundled source, which needs a C++ compiler), the boxes
//! of MP4 from `shiguredo_mp4`. Frames become closed segments ([`segments`]), segments the
//! fragments of a file that grows ([`growing`], read back by [`growing_index`]), and that at the end
//! a plain file with its index before the pictures ([`faststart`]).

mod boxes;
pub(crate) mod contact_sheet;
mod faststart;
pub(crate) mod format;
pub(crate) mod frames;
pub(crate) mod growing;
pub(crate) mod growing_index;
pub(crate) mod mp4_tags;
pub(crate) mod segments;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use crate::error::{Result, StructureError};
use format::VideoFormat;
use frames::VideoFrames;
use growing::GrowingMp4;
use growing_index::GrowingIndex;
use mp4_tags::VideoTags;
use segments::SegmentEncoder;

/// Bytes that an MP4 file of so many frames takes, about and at most: pixels and frames.
///
/// Where a file grows while the frames come, count it twice: the growing file is there until the
/// final file is written.
pub fn estimated_mp4_bytes(width: usize, height: usize, frames: usize) -> u64 {
    let pixels =
        [width, height, frames].iter().fold(1, |all: u64, n| all.saturating_mul(*n as u64));
    // The encoder's target of 1.5 bits per pixel.
    pixels.saturating_mul(3) / 16
}

/// The bytes of an MP4 file with `frames` as H.264 at `fps` frames per second, and `tags`.
///
/// Each frame lasts 1/fps seconds, the last too. The bytes are those of a file that was written
/// segment by segment ([`SegmentEncoder`]).
///
/// # Errors
/// [`Error::OddSize`](crate::Error::OddSize) and [`Error::FrameRate`](crate::Error::FrameRate) for
/// what H.264 cannot hold, and errors of the encoder and the muxer.
pub fn encode_mp4(frames: &VideoFrames, fps: f64, tags: &VideoTags) -> Result<Vec<u8>> {
    let format = VideoFormat::new(frames.width(), frames.height(), fps)?;
    let mut encoder = SegmentEncoder::new(format);
    let mut growing = GrowingMp4::new(format);
    let mut file = Cursor::new(Vec::new());
    for frame in frames.iter() {
        if let Some(segment) = encoder.push(frame)? {
            growing.append(&segment)?.write(&mut file)?;
        }
    }
    if let Some(segment) = encoder.finish() {
        growing.append(&segment)?.write(&mut file)?;
    }
    let length = file.get_ref().len() as u64;
    let index = GrowingIndex::read(&mut file, length)?;
    let index = index.ok_or(StructureError::Missing("moof"))?;
    let mut mp4 = Vec::new();
    index.write_faststart(&mut file, tags, &mut mp4)?;
    Ok(mp4)
}
