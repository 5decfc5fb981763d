//! Size and rate of a video, and how many frames a segment of it has.

use crate::error::{Error, Result};

/// Length of a segment in seconds, so that players can seek.
const SEGMENT_SECONDS: u64 = 2;

/// Fewest frames of a whole segment. Each encoder numbers its key frames (`idr_pic_id`) anew, and
/// two key frames in a row must have different numbers (ISO/IEC 14496-10, 7.4.3).
const SEGMENT_FRAMES_MIN: usize = 2;

/// Most frames of a segment, whose pictures are kept until it is encoded.
pub(crate) const SEGMENT_FRAMES_MAX: usize = 64;

/// Largest part of a frame rate as a fraction, and how far the fraction may be from the rate.
const PART_MAX: f64 = (1_u64 << 31) as f64;
const RATE_TOLERANCE: f64 = 1e-12;

/// Ticks a second that players count well with; a slower clock is made finer.
const TICKS_MIN: u32 = 10_000;
const FINER: u32 = 1000;

/// Width, height and frame rate of a video that H.264 in MP4 can hold.
///
/// The rate is kept as a fraction of whole numbers, so that each frame lasts equally long however
/// many there are: 24000/1001 as it is, and 23.976 as 2997/125.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    width: usize,
    height: usize,
    /// Ticks of the clock in a second.
    ticks_per_second: u32,
    /// Ticks that a frame lasts.
    ticks_per_frame: u32,
}

impl VideoFormat {
    /// Frames of `width` x `height` pixels, `fps` of them in a second.
    ///
    /// # Errors
    /// [`Error::OddSize`] if a side is odd, [`Error::Shape`] if it is 0, and [`Error::FrameRate`] if
    /// the rate is no positive number or no fraction of numbers below 2^31 is near it.
    pub fn new(width: usize, height: usize, fps: f64) -> Result<Self> {
        if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Err(Error::OddSize { width, height });
        }
        if width == 0 || height == 0 {
            return Err(Error::Shape { width, height, bytes: 0 });
        }
        let (frames, seconds) = fraction(fps).ok_or(Error::FrameRate { fps })?;
        let finer = if frames < TICKS_MIN && seconds < TICKS_MIN { FINER } else { 1 };
        Ok(Self {
            width,
            height,
            ticks_per_second: frames * finer,
            ticks_per_frame: seconds * finer,
        })
    }

    /// Width in pixels, even.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, even.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Frames per second: [`Self::ticks_per_second`] / [`Self::ticks_per_frame`].
    pub fn fps(&self) -> f64 {
        f64::from(self.ticks_per_second) / f64::from(self.ticks_per_frame)
    }

    /// Ticks of the clock in a second, at least 1 (ISO/IEC 14496-12: `timescale`).
    pub fn ticks_per_second(&self) -> u32 {
        self.ticks_per_second
    }

    /// Ticks that each frame lasts, the last too; at least 1.
    pub fn ticks_per_frame(&self) -> u32 {
        self.ticks_per_frame
    }

    /// Frames of each segment but the last, which may have fewer: those of 2 seconds, at least 2
    /// and at most 64, since their pictures are kept in memory until the segment is encoded.
    ///
    /// It depends on the rate alone: segment `k` begins with frame `k * segment_frames()`.
    pub fn segment_frames(&self) -> usize {
        let ticks = SEGMENT_SECONDS * u64::from(self.ticks_per_second);
        let frames = ticks.div_ceil(u64::from(self.ticks_per_frame));
        let frames = usize::try_from(frames).unwrap_or(SEGMENT_FRAMES_MAX);
        frames.clamp(SEGMENT_FRAMES_MIN, SEGMENT_FRAMES_MAX)
    }

    /// Bytes of a frame: height x width x 3.
    pub fn frame_bytes(&self) -> usize {
        self.width.saturating_mul(self.height).saturating_mul(3)
    }

    /// A format as it stands in a file; none where a side is 0 or odd, or a number of ticks is 0.
    pub(crate) fn of_ticks(size: (usize, usize), per_second: u32, per_frame: u32) -> Option<Self> {
        let (width, height) = size;
        let is_even = width.is_multiple_of(2) && height.is_multiple_of(2);
        let is_none = [width, height].contains(&0) || [per_second, per_frame].contains(&0);
        (is_even && !is_none).then_some(Self {
            width,
            height,
            ticks_per_second: per_second,
            ticks_per_frame: per_frame,
        })
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole positive numbers of at most 2^31"
)]
/// The first fraction, by the continued fraction of `fps`, that is as near as matters.
fn fraction(fps: f64) -> Option<(u32, u32)> {
    if !(fps.is_finite() && fps > 0.0) {
        return None;
    }
    let (mut last, mut last_but_one) = ((1.0, 0.0), (0.0, 1.0));
    let mut rest = fps;
    loop {
        let whole = rest.floor();
        let next = (whole * last.0 + last_but_one.0, whole * last.1 + last_but_one.1);
        if next.0 > PART_MAX || next.1 > PART_MAX {
            return None;
        }
        if next.0 > 0.0 && (next.0 / next.1 - fps).abs() <= fps * RATE_TOLERANCE {
            return Some((next.0 as u32, next.1 as u32));
        }
        (last_but_one, last) = (last, next);
        rest = 1.0 / (rest - whole);
    }
}
