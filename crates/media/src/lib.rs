//! Reads and writes videos and pictures.
//!
//! Formats: H.264 in MP4 with its tags, PNG, JPEG, WebP. Frames are `u8` RGB, frames x height x
//! width x 3 ([`VideoFrames`]), or one [`RgbImage`]. What is written is given as bytes: where they go
//! is for others.
//!
//! Given files are read through `wan-border`: the most of bytes and pixels is stated, and a decoder
//! that panics is an error.
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
pub use error::{Error, Result, StructureError};
pub use image::RgbImage;
pub use pictures::{PictureLimits, fit, picture, read_image, read_image_within};
pub use psnr::psnr;
pub use video::contact_sheet::{SheetLayout, encode_png_sheet, evenly_spaced, is_png_sheet};
pub use video::mp4_tags::{VideoTags, read_tags};
pub use video::{VideoFrames, encode_mp4, estimated_mp4_bytes};
