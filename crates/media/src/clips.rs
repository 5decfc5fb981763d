//! Reads clips that the user gives.

mod track;

use std::path::Path;

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use wan_border::files::{self, OpenFile};

use crate::error::{Error, Result};
use crate::video::frames::VideoFrames;
use track::Track;

/// Most bytes of all frames of a clip, RGB: 16 GiB are four minutes of 1280x720 at 24 a second.
pub const CLIP_BYTES_MAX: u64 = 1 << 34;

/// Reads all frames of an MP4 file with H.264 video, in the order in which they are shown.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, or a reader of it panics; [`Error::Clip`] if it is
/// of another format, has no frame, or is damaged; [`Error::TooLarge`].
pub fn read_video(path: &Path) -> Result<VideoFrames> {
    read_video_within(&mut OpenFile::open(path)?, CLIP_BYTES_MAX)
}

/// As [`read_video`], of a file that is open, with another most of bytes.
///
/// # Errors
/// As [`read_video`].
pub fn read_video_within(file: &mut OpenFile, bytes_max: u64) -> Result<VideoFrames> {
    let path = file.path().to_path_buf();
    files::foreign(&path, "clip", || decode((&path, file), bytes_max))?
}

fn decode((path, file): (&Path, &mut OpenFile), bytes_max: u64) -> Result<VideoFrames> {
    let wrong = |why: String| Error::Clip { path: path.to_path_buf(), why };
    let refused = |error: openh264::Error| wrong(error.to_string());
    let mut track = Track::of(file)?;
    // Else a frame that is shown before one that comes earlier in the file is an error.
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    let mut decoder =
        Decoder::with_api_config(OpenH264API::from_source(), config).map_err(refused)?;
    let mut frames = Frames { path, bytes_max, size: (0, 0), rgb: Vec::new() };
    let mut samples = 0;
    while let Some(units) = track.next_sample()? {
        samples += 1;
        for unit in units {
            let decoded = decoder.decode(&unit).map_err(refused)?;
            decoded.map_or(Ok(()), |d| frames.push(&d))?;
        }
    }
    for decoded in decoder.flush_remaining().map_err(refused)? {
        frames.push(&decoded)?;
    }
    let (width, height) = frames.size;
    let count = frames.rgb.len() / (width * height * 3).max(1);
    if count == 0 || count != samples {
        return Err(wrong(format!("{count} of its {samples} frames can be decoded")));
    }
    VideoFrames::new(width, height, frames.rgb)
}

/// Decoded frames, collected.
struct Frames<'p> {
    path: &'p Path,
    bytes_max: u64,
    /// Width and height of each.
    size: (usize, usize),
    rgb: Vec<u8>,
}

impl Frames<'_> {
    fn push(&mut self, decoded: &DecodedYUV<'_>) -> Result<()> {
        let (width, height) = decoded.dimensions();
        if !self.rgb.is_empty() && (width, height) != self.size {
            let why = "its size changes midway".into();
            return Err(Error::Clip { path: self.path.into(), why });
        }
        self.size = (width, height);
        let start = self.rgb.len();
        let end = start + width * height * 3;
        if end as u64 > self.bytes_max {
            let (frame, most) = (format!("{width}x{height}"), self.bytes_max / 3);
            return Err(Error::TooLarge {
                path: self.path.into(),
                found: format!("more than {} frames of {frame}", start / (width * height * 3)),
                limit: format!("{most} in all frames"),
            });
        }
        self.rgb.resize(end, 0);
        decoded.write_rgb8(&mut self.rgb[start..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VideoTags, encode_mp4};

    #[test]
    fn a_written_clip_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let rgb: Vec<u8> = (0..9u8).flat_map(|f| vec![20 * f + 40; 32 * 16 * 3]).collect();
        let frames = VideoFrames::new(32, 16, rgb.clone()).unwrap();
        let mp4 = encode_mp4(&frames, 16.0, &VideoTags::default()).unwrap();
        std::fs::write(&path, mp4).unwrap();
        let read = read_video(&path).unwrap();
        assert_eq!((read.width(), read.height(), read.frames()), (32, 16, 9));
        assert!(read.rgb().iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) <= 6));

        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 10, bytes.len() / 2] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(read_video(&path).is_err(), "cut to {len} bytes");
        }
    }
}
