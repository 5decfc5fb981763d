//! Frames as H.264 in MP4 and as a PNG contact sheet.
//!
//! H.264 comes from OpenH264 (built from its bundled source, which needs a C++ compiler) and MP4
//! from `muxide`, with the index before the pictures so that a browser can start playing at once.
//! `muxide` has no title, comment and description; [`mp4_tags`] adds them.

pub(crate) mod contact_sheet;
pub(crate) mod mp4_tags;
#[cfg(test)]
mod tests;

use muxide::api::{MuxerConfig, VideoCodec};
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod,
    MatrixCoefficients, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::{RgbSliceU8, YUVBuffer};

use wan_border::numbers::u32_of;

use crate::error::{Error, Result};
use mp4_tags::VideoTags;

/// Ranges of the quantiser, of 0 (finest) to 51. Each is tried when the one before fails.
///
/// Generated clips are small and full of flat colour, where the blocks of H.264 show first. Up to
/// 20 they are not visible: the loss (64x64: 0.3 dB) is far below that of the half-resolution
/// colour of any H.264 video. Below 12 the rate control of OpenH264 has no effect. Pure noise, as
/// from a model with random weights, overflows the encoder's buffer at fine steps, which it reports
/// as an error; coarser steps lose nothing that matters in noise.
const QUANTISERS: [(u8, u8); 3] = [(12, 20), (20, 28), (28, 40)];

/// Target of bits per pixel, within the range of the quantiser.
const BITS_PER_PIXEL: f64 = 1.5;

/// Range of the target of bits per second: the minimum is for tiny clips, the maximum is that of
/// H.264 level 5.1.
const BITS_PER_SECOND: std::ops::RangeInclusive<f64> = 500e3..=200e6;

/// Longest distance of two key frames in seconds, so that players can seek.
const KEY_FRAME_SECONDS: f64 = 2.0;

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

    /// All pixels: frames x height x width x 3 bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// Bytes that an MP4 file of so many frames takes, about and at most: pixels and frames.
pub fn estimated_mp4_bytes(width: usize, height: usize, frames: usize) -> u64 {
    let pixels =
        [width, height, frames].iter().fold(1, |all: u64, n| all.saturating_mul(*n as u64));
    // `BITS_PER_PIXEL` of 1.5.
    pixels.saturating_mul(3) / 16
}

/// The bytes of an MP4 file with `frames` as H.264 at `fps` frames per second, and `tags`.
///
/// A clip of one frame has duration 0 in players, because the muxer takes a frame's duration from
/// the next frame. Use [`encode_png_sheet`](crate::encode_png_sheet) for it.
///
/// # Errors
/// [`Error::OddSize`] and [`Error::FrameRate`] for what H.264 cannot hold, and errors of the encoder
/// and the muxer.
pub fn encode_mp4(frames: &VideoFrames, fps: f64, tags: &VideoTags) -> Result<Vec<u8>> {
    Ok(mp4_tags::insert_tags(encode_untagged(frames, fps)?, tags)?)
}

/// The bytes of an MP4 file without tags, at the finest quantiser with which the encoder succeeds.
fn encode_untagged(frames: &VideoFrames, fps: f64) -> Result<Vec<u8>> {
    let (width, height) = (frames.width, frames.height);
    if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
        return Err(Error::OddSize { width, height });
    }
    if !(fps.is_finite() && fps > 0.0) {
        return Err(Error::FrameRate { fps });
    }
    let [finest, coarser @ ..] = QUANTISERS;
    let mut encoded = encode_with(frames, fps, finest);
    for quantisers in coarser {
        if matches!(encoded, Err(Error::Encode(_))) {
            encoded = encode_with(frames, fps, quantisers);
        }
    }
    encoded
}

/// Encodes and muxes the clip with the quantiser in this range.
fn encode_with(frames: &VideoFrames, fps: f64, quantisers: (u8, u8)) -> Result<Vec<u8>> {
    let (width, height) = (frames.width, frames.height);
    let config = encoder_config(frames, fps, quantisers);
    let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
    let mut muxer = MuxerConfig::new(u32_of(width), u32_of(height), fps)
        .with_fast_start(true)
        .into_builder(Vec::new(), VideoCodec::H264)
        .build()?;
    let mut yuv = YUVBuffer::new(width, height);
    for index in 0..frames.frames() {
        yuv.read_rgb8(RgbSliceU8::new(frames.frame(index), (width, height)));
        let picture = encoder.encode(&yuv)?;
        let key = match picture.frame_type() {
            FrameType::IDR => true,
            FrameType::Skip | FrameType::Invalid => return Err(Error::Dropped { index }),
            _ => false,
        };
        muxer.write_video(index as f64 / fps, &picture.to_vec(), key)?;
    }
    muxer.finish_in_place()?;
    Ok(muxer.into_writer())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive numbers, far below 2^32 or at its end"
)]
/// The encoder's settings: highest quality, no dropped frames, colours labelled.
fn encoder_config(frames: &VideoFrames, fps: f64, quantisers: (u8, u8)) -> EncoderConfig {
    let pixels_per_second = (frames.width * frames.height) as f64 * fps;
    let bits_per_second = (pixels_per_second * BITS_PER_PIXEL)
        .clamp(*BITS_PER_SECOND.start(), *BITS_PER_SECOND.end());
    // `YUVBuffer` converts with the BT.601 matrix at any size. Without a label, players assume
    // BT.709 for large clips, which shifts the colours. Primaries are those of a screen.
    let colours = VuiConfig::bt709().matrix_coefficients(MatrixCoefficients::Smpte170M);
    let key_frame_every = (fps * KEY_FRAME_SECONDS).ceil() as u32;
    EncoderConfig::new()
        .skip_frames(false)
        // The other modes skip frames, or print a warning if they must not. This one changes the
        // quantiser only, within its range.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(quantisers.0, quantisers.1))
        .bitrate(BitRate::from_bps(bits_per_second as u32))
        .max_frame_rate(FrameRate::from_hz(fps as f32))
        .complexity(Complexity::High)
        // Background detection does not refresh what hardly changes: slow fades would show steps.
        .background_detection(false)
        .intra_frame_period(IntraFramePeriod::from_num_frames(key_frame_every))
        .vui(colours)
}
