//! Reads pictures that the user gives, and fits them to a size.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ImageReader, RgbImage};

use crate::error::{Error, Result};
use crate::video::VideoFrames;

/// Reads a PNG, JPEG or WebP picture.
///
/// # Errors
/// [`Error::Open`] if the file cannot be read, [`Error::Picture`] if it is of another format.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let reader = ImageReader::open(path).map_err(Error::open(path))?;
    let reader = reader.with_guessed_format().map_err(Error::open(path))?;
    let picture =
        reader.decode().map_err(|source| Error::Picture { path: path.to_path_buf(), source })?;
    Ok(picture.to_rgb8())
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
    let part = imageops::crop_imm(picture, left as u32, top as u32, cut_w as u32, cut_h as u32);
    imageops::resize(&part.to_image(), width as u32, height as u32, FilterType::Lanczos3)
}

/// Frame `index` of a clip, from 0, as a picture.
///
/// # Panics
/// If there is no such frame.
pub fn picture(frames: &VideoFrames, index: usize) -> RgbImage {
    let (width, height) = (frames.width() as u32, frames.height() as u32);
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
}
