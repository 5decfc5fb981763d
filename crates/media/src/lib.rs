//! Reads and writes videos and pictures.
//!
//! Formats: H.264 in MP4 with its tags, PNG, JPEG, WebP. Frames are `u8` RGB, frames x height x
//! width x 3 ([`VideoFrames`]), or one [`RgbImage`]. Every file is written whole or not at all
//! ([`write_whole_file`]).
//!
//! The crate knows no tensor, model or setting, prints nothing, and depends on no other crate of
//! this workspace.

mod clips;
mod error;
mod pictures;
mod psnr;
mod video;
mod whole_file;

pub use clips::read_video;
pub use error::{Error, Result, StructureError};
pub use image::RgbImage;
pub use pictures::{fit, picture, read_image};
pub use psnr::psnr;
pub use video::contact_sheet::{SheetLayout, evenly_spaced, write_png_sheet};
pub use video::mp4_tags::{VideoTags, read_tags};
pub use video::{VideoFrames, write_mp4};
pub use whole_file::{folder_of, write_whole_file};
