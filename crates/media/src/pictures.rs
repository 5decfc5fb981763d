//! Reads pictures that the user gives, and fits them to a size.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use wan_border::files::{self, Content, OpenFile};
use wan_border::numbers::u32_of;

use crate::error::{Error, Result};
use crate::jpeg_end;
use crate::video::frames::VideoFrames;

/// What a decoder may allocate beside pixels, in bytes.
const ROOM: u64 = 1 << 25;

/// The most pixels of a picture that are read. Decoding takes up to 12 bytes for each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// Width, and height.
    pub side: u32,
    /// In all.
    pub pixels: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { side: 1 << 14, pixels: 1 << 26 }
    }
}

/// Reads a PNG, JPEG or WebP picture of at most 16384 pixels a side, and 2^26 in all.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, or its reader panics; [`Error::Picture`] if it is of
/// another format or damaged, [`Error::CutShort`] for a JPEG without its end, [`Error::TooLarge`].
pub fn read_image(path: &Path) -> Result<RgbImage> {
    read_image_within(&mut OpenFile::open(path)?, PictureLimits::default())
}

/// As [`read_image`], of a file that is open, with other limits.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_within(file: &mut OpenFile, limits: PictureLimits) -> Result<RgbImage> {
    let bytes = file.bytes(Content::Picture)?;
    let path = file.path();
    // The decoder fills up with grey.
    if jpeg_end::is_cut_short(&bytes) {
        return Err(Error::CutShort { path: path.into() });
    }
    files::foreign(path, "picture", || decode(path, &bytes, limits))?
}

fn decode(path: &Path, bytes: &[u8], limits: PictureLimits) -> Result<RgbImage> {
    let damaged = |source| Error::Picture { path: path.into(), source };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| damaged(error.into()))?;
    let mut allowed = Limits::default();
    allowed.max_alloc = Some(8 * limits.pixels + ROOM);
    reader.limits(allowed);
    let decoder = reader.into_decoder().map_err(damaged)?;
    // By the header, before anything is decoded.
    let (width, height) = decoder.dimensions();
    let PictureLimits { side, pixels } = limits;
    if width.max(height) > side || u64::from(width) * u64::from(height) > pixels {
        return Err(Error::TooLarge {
            path: path.into(),
            found: format!("{width}x{height}"),
            limit: format!("{side} a side and {pixels} in all"),
        });
    }
    Ok(DynamicImage::from_decoder(decoder).map_err(damaged)?.into_rgb8())
}

/// Fits a picture to a size in pixels: cuts out the largest middle part with the aspect ratio of
/// the target and resizes it (Lanczos), as in SkyReels-V2 (commit abed76f).
pub fn fit(picture: &RgbImage, width: usize, height: usize) -> RgbImage {
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    if (w, h) == (width, height) {
        return picture.clone();
    }
    // w/h against width/height, without division.
    let (cut_w, cut_h) = if w * height > h * width {
        (((h * width) / height).max(1), h)
    } else {
        (w, ((w * height) / width).max(1))
    };
    let (left, top) = ((w - cut_w) / 2, (h - cut_h) / 2);
    let [left, top, cut_w, cut_h] = [left, top, cut_w, cut_h].map(u32_of);
    let part = imageops::crop_imm(picture, left, top, cut_w, cut_h);
    imageops::resize(&part.to_image(), u32_of(width), u32_of(height), FilterType::Lanczos3)
}

/// Frame `index` of a clip, from 0, as a picture.
///
/// # Panics
/// If there is no such frame.
pub fn picture(frames: &VideoFrames, index: usize) -> RgbImage {
    let (width, height) = (u32_of(frames.width()), u32_of(frames.height()));
    RgbImage::from_raw(width, height, frames.frame(index).to_vec()).expect("a frame has its size")
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_picture_is_cut_in_the_middle_and_never_stretched() {
        // Red, green and blue thirds; a square shows the green one.
        let third = |x: u32| match x / 30 {
            0 => Rgb([255, 0, 0]),
            1 => Rgb([0, 255, 0]),
            _ => Rgb([0, 0, 255]),
        };
        let wide = RgbImage::from_fn(90, 30, |x, _| third(x));
        let square = fit(&wide, 60, 60);
        assert_eq!(square.dimensions(), (60, 60));
        assert!(square.pixels().all(|p| *p == Rgb([0, 255, 0])));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let png = folder.path().join("picture.png");
        std::fs::write(&png, b"no picture").unwrap();
        assert!(read_image(&png).unwrap_err().to_string().contains("not a PNG"));
    }

    #[test]
    fn a_picture_that_is_cut_short_is_refused_in_every_format() {
        let folder = tempfile::tempdir().unwrap();
        // Detail everywhere, so that half of the file is half of the picture.
        let detail = |x: u32, y: u32| ((x * 37 + y * 91 + x * y * 13) % 251) as u8;
        let picture = RgbImage::from_fn(64, 48, |x, y| Rgb([detail(x, y), detail(y, x), 9]));
        for name in ["a.jpg", "a.png", "a.webp"] {
            let path = folder.path().join(name);
            picture.save(&path).unwrap();
            let whole = std::fs::read(&path).unwrap();
            assert_eq!(read_image(&path).unwrap().dimensions(), (64, 48), "{name}");
            for kept in [whole.len() / 2, whole.len() * 3 / 4, whole.len() - 20] {
                std::fs::write(&path, &whole[..kept]).unwrap();
                let error = read_image(&path).unwrap_err();
                assert!(error.is_of_what_was_given(), "{error}");
            }
        }
    }

    #[test]
    fn a_picture_with_too_many_pixels_is_refused_by_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.png");
        RgbImage::new(70, 30).save(&path).unwrap();
        let within = |limits| read_image_within(&mut OpenFile::open(&path).unwrap(), limits);
        let refused =
            |side, pixels| within(PictureLimits { side, pixels }).unwrap_err().to_string();
        assert!(within(PictureLimits { side: 70, pixels: 2100 }).is_ok());
        for (side, pixels) in [(69, 2100), (70, 2099)] {
            let expected = format!("70x30 pixels, {side} a side and {pixels} in all are the most");
            assert!(refused(side, pixels).contains(&expected));
        }
    }
}
