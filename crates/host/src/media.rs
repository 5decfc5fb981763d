//! Pictures and clips that the user gives.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::imageops::{self, FilterType};
use image::{ImageReader, RgbImage};
use mp4::{MediaType, Mp4Reader, TrackType};
use openh264::decoder::{DecodedYUV, Decoder};
use openh264::formats::YUVSource;

use crate::error::{Error, Result};
use crate::video::VideoFrames;

/// Reads a PNG, JPEG or WebP picture.
///
/// # Errors
/// If it cannot be read or is of another format.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    let reader = ImageReader::open(path).map_err(Error::io(path))?;
    let reader = reader.with_guessed_format().map_err(Error::io(path))?;
    let picture = reader.decode().map_err(|e| {
        Error::invalid(format!("{}: not a PNG, JPEG or WebP picture ({e})", path.display()))
    })?;
    Ok(picture.to_rgb8())
}

/// Fits a picture to a size: the largest middle part of the size's shape is cut out and resized
/// (Lanczos), as SkyReels-V2 (commit abed76f) does; nothing is stretched.
pub fn fit(picture: &RgbImage, width: usize, height: usize) -> RgbImage {
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    if (w, h) == (width, height) {
        return picture.clone();
    }
    // w/h against width/height, without division.
    let (cut_w, cut_h) = match w * height > h * width {
        true => (((h * width) / height).max(1), h),
        false => (w, ((w * height) / width).max(1)),
    };
    let (left, top) = ((w - cut_w) / 2, (h - cut_h) / 2);
    let part = imageops::crop_imm(picture, left as u32, top as u32, cut_w as u32, cut_h as u32);
    imageops::resize(&part.to_image(), width as u32, height as u32, FilterType::Lanczos3)
}

/// Pictures of one size as `[1, 3, T, H, W]` in -1 to 1.
///
/// # Errors
/// If there is none, or their sizes differ.
pub fn to_tensor(pictures: &[RgbImage], device: &Device) -> Result<Tensor> {
    let first = pictures.first().ok_or_else(|| Error::invalid("no picture is given"))?;
    let (width, height) = (first.width() as usize, first.height() as usize);
    if pictures.iter().any(|p| p.dimensions() != first.dimensions()) {
        return Err(Error::invalid("pictures of different sizes"));
    }
    let bytes: Vec<u8> = pictures.iter().flat_map(|p| p.as_raw().iter().copied()).collect();
    let values: Vec<f32> = bytes.into_iter().map(|b| f32::from(b) / 127.5 - 1.0).collect();
    let frames = Tensor::from_vec(values, (pictures.len(), height, width, 3), device)?;
    Ok(frames.permute((3, 0, 1, 2))?.unsqueeze(0)?.contiguous()?) // [1, 3, T, H, W]
}

/// Frame `index` of a clip as a picture.
pub fn picture(frames: &VideoFrames, index: usize) -> RgbImage {
    let (width, height) = (frames.width() as u32, frames.height() as u32);
    RgbImage::from_raw(width, height, frames.frame(index).to_vec()).expect("a frame has its size")
}

/// Reads all frames of an MP4 file with H.264 video.
///
/// # Errors
/// If it is something else, or is damaged.
pub fn read_video(path: &Path) -> Result<VideoFrames> {
    let wrong = |why: String| Error::invalid(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let mut reader = Mp4Reader::read_header(BufReader::new(file), size)
        .map_err(|e| wrong(format!("not a readable MP4 file ({e})")))?;
    let is_h264 = |t: &mp4::Mp4Track| {
        matches!(t.track_type(), Ok(TrackType::Video))
            && matches!(t.media_type(), Ok(MediaType::H264))
    };
    let track = reader.tracks().values().find(|t| is_h264(t));
    let track = track.ok_or_else(|| wrong("no H.264 video in it".into()))?;
    let (id, samples) = (track.track_id(), track.sample_count());
    let sets = [track.sequence_parameter_set(), track.picture_parameter_set()];
    let mut stream = Vec::new();
    for set in sets {
        let set = set.map_err(|e| wrong(format!("no parameter set ({e})")))?;
        stream.extend([&[0, 0, 0, 1], set].concat());
    }
    let mut frames = Frames::default();
    let mut decoder = Decoder::new().map_err(|e| wrong(e.to_string()))?;
    for sample in 1..=samples {
        let sample = reader.read_sample(id, sample).map_err(|e| wrong(e.to_string()))?;
        let Some(sample) = sample else { continue };
        append_units(&mut stream, &sample.bytes).ok_or_else(|| wrong("is damaged".into()))?;
        let decoded = decoder.decode(&stream).map_err(|e| wrong(e.to_string()))?;
        stream.clear();
        decoded.map_or(Ok(()), |d| frames.push(&d)).map_err(wrong)?;
    }
    for decoded in decoder.flush_remaining().map_err(|e| wrong(e.to_string()))? {
        frames.push(&decoded).map_err(wrong)?;
    }
    if frames.rgb.is_empty() {
        return Err(wrong("holds no frame".into()));
    }
    Ok(VideoFrames::new(frames.width, frames.height, frames.rgb)?)
}

/// Decoded frames, collected.
#[derive(Default)]
struct Frames {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Frames {
    fn push(&mut self, decoded: &DecodedYUV<'_>) -> std::result::Result<(), String> {
        let (width, height) = decoded.dimensions();
        if !self.rgb.is_empty() && (width, height) != (self.width, self.height) {
            return Err("its size changes midway".into());
        }
        (self.width, self.height) = (width, height);
        let start = self.rgb.len();
        self.rgb.resize(start + width * height * 3, 0);
        decoded.write_rgb8(&mut self.rgb[start..]);
        Ok(())
    }
}

/// Appends length-prefixed units, as MP4 holds them, with start codes instead.
fn append_units(stream: &mut Vec<u8>, mut sample: &[u8]) -> Option<()> {
    while let Some((length, rest)) = sample.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        stream.extend([0, 0, 0, 1]);
        stream.extend(unit);
        sample = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::video::{VideoTags, write_mp4};

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
    fn black_is_minus_one_and_white_is_one() {
        let pictures = [RgbImage::from_pixel(2, 1, Rgb([0, 255, 0]))];
        let tensor = to_tensor(&pictures, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 1, 1, 2]);
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, [-1.0, -1.0, 1.0, 1.0, -1.0, -1.0]);
    }

    #[test]
    fn a_written_clip_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let rgb: Vec<u8> = (0..9u8).flat_map(|f| vec![20 * f + 40; 32 * 16 * 3]).collect();
        let frames = VideoFrames::new(32, 16, rgb.clone()).unwrap();
        write_mp4(&path, &frames, 16.0, &VideoTags::default()).unwrap();
        let read = read_video(&path).unwrap();
        assert_eq!((read.width(), read.height(), read.frames()), (32, 16, 9));
        assert!(read.rgb().iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) <= 6));

        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 10, bytes.len() / 2] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(read_video(&path).is_err(), "cut to {len} bytes");
        }
        let png = folder.path().join("picture.png");
        std::fs::write(&png, b"no picture").unwrap();
        assert!(read_image(&png).unwrap_err().to_string().contains("not a PNG"));
    }
}
