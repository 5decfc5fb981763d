//! Reads clips that the user gives.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use mp4::{MediaType, Mp4Reader, TrackType};
use openh264::decoder::{DecodedYUV, Decoder};
use openh264::formats::YUVSource;

use crate::error::{Error, Result};
use crate::video::VideoFrames;

/// Reads all frames of an MP4 file with H.264 video.
///
/// # Errors
/// [`Error::Open`] if the file cannot be read, [`Error::Clip`] if it is another format, has no
/// frame, or is damaged.
pub fn read_video(path: &Path) -> Result<VideoFrames> {
    let wrong = |why: String| Error::Clip { path: path.to_path_buf(), why };
    let file = File::open(path).map_err(Error::open(path))?;
    let size = file.metadata().map_err(Error::open(path))?.len();
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
    VideoFrames::new(frames.width, frames.height, frames.rgb)
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

/// Appends the length-prefixed units of an MP4 sample to an H.264 stream with start codes. `None`
/// if a unit is cut off.
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
