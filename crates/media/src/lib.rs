//! Reads and writes videos and pictures.
//!
//! Formats: H.264 in MP4 with its tags, PNG, JPEG, WebP. Frames are `u8` RGB, frames x height x
//! width x 3 ([`VideoFrames`]), or one [`RgbImage`]. What is written is given as bytes: where they go
//! is for others.
//!
//! Given files are read through `wan-border`: the most of bytes and pixels is stated, and a decoder
//! that panics is an error.
//!
//! # A video that is written while its frames come
//! Frames become closed segments, segments the fragments of a file that grows and plays meanwhile,
//! and that at the end the final file. Memory holds one segment, and 8 bytes a frame at the end. A
//! run that was stopped goes on at the start of a segment, and its bytes are the same.
//! ```
//! use std::io::{Seek, SeekFrom};
//!
//! use wan_media::{GrowingIndex, GrowingMp4, SegmentEncoder, VideoFormat, VideoTags};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let frames: Vec<Vec<u8>> = (0..70).map(|shade| vec![shade * 3; 64 * 48 * 3]).collect();
//! let format = VideoFormat::new(64, 48, 16.0)?;
//!
//! // As far as the first run came.
//! let mut file = tempfile::tempfile()?;
//! let (mut encoder, mut growing) = (SegmentEncoder::new(format), GrowingMp4::new(format));
//! for frame in &frames[..50] {
//!     if let Some(segment) = encoder.push(frame)? {
//!         growing.append(&segment)?.write(&mut file)?;
//!     }
//! }
//!
//! // The second run goes on with what is there: one segment of 32 frames.
//! let length = file.seek(SeekFrom::End(0))?;
//! let index = GrowingIndex::read(&mut file, length)?.expect("a whole segment");
//! let there = index.resume_point();
//! assert_eq!((index.format(), there.segments, there.next_frame), (format, 1, 32));
//! file.set_len(there.bytes)?;
//! let mut encoder = SegmentEncoder::starting_at(format, there.segments);
//! let mut growing = GrowingMp4::resume(&index);
//! for frame in &frames[there.next_frame..] {
//!     if let Some(segment) = encoder.push(frame)? {
//!         growing.append(&segment)?.write(&mut file)?;
//!     }
//! }
//! if let Some(last) = encoder.finish() {
//!     growing.append(&last)?.write(&mut file)?;
//! }
//!
//! // The final file, with its index before the pictures.
//! let length = file.seek(SeekFrom::End(0))?;
//! let index = GrowingIndex::read(&mut file, length)?.expect("all segments");
//! assert_eq!(index.frames(), frames.len());
//! let mut mp4 = Vec::new();
//! index.write_faststart(&mut file, &VideoTags::default(), &mut mp4)?;
//! # let whole = wan_media::VideoFrames::new(64, 48, frames.concat())?;
//! # assert_eq!(mp4, wan_media::encode_mp4(&whole, 16.0, &VideoTags::default())?);
//! # Ok(())
//! # }
//! ```
//!
//! The crate knows no tensor, model or setting, and prints nothing.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

mod clips;
mod error;
mod jpeg_end;
mod pictures;
mod psnr;
mod video;

pub use clips::{CLIP_BYTES_MAX, read_video, read_video_within};
pub use error::{Error, MuxError, Result, StructureError};
pub use image::RgbImage;
pub use pictures::{PictureLimits, fit, picture, read_image, read_image_within};
pub use psnr::{PsnrSum, psnr};
pub use video::contact_sheet::{
    SheetFrames, SheetLayout, encode_png_preview, encode_png_sheet, evenly_spaced, is_png_preview,
    is_png_sheet, spread,
};
pub use video::format::VideoFormat;
pub use video::frames::VideoFrames;
pub use video::growing::{Fragment, GrowingMp4};
pub use video::growing_index::{GrowingIndex, ResumePoint};
pub use video::mp4_tags::{VideoTags, read_tags};
pub use video::segments::{Segment, SegmentEncoder};
pub use video::{encode_mp4, estimated_mp4_bytes};
