//! Frames as closed segments of H.264.
//!
//! Each segment is encoded by an encoder of its own and begins with a key frame (IDR), so its bytes
//! depend on its own frames alone: a clip can be continued at the start of any segment.

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod,
    MatrixCoefficients, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::{RgbSliceU8, YUVBuffer};

use super::format::VideoFormat;
use crate::error::{Error, MuxError, Result};

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

/// Kinds of units: ISO/IEC 14496-10, table 7-1.
const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;

/// A frame in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Length of its units, each with the length that stands before it.
    pub(crate) bytes: u32,
    /// Whether it is a key frame.
    pub(crate) is_key: bool,
}

/// Sequence and picture parameters (SPS, PPS), which a decoder needs before the first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) sequence: Vec<u8>,
    pub(crate) picture: Vec<u8>,
}

/// Some frames as H.264 that are decoded without any others; the first is a key frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub(crate) format: VideoFormat,
    pub(crate) index: usize,
    pub(crate) parameters: Parameters,
    pub(crate) samples: Vec<Sample>,
    pub(crate) bytes: Vec<u8>,
}

impl Segment {
    /// Which segment of the clip it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The number of its first frame in the clip, from 0.
    pub fn first_frame(&self) -> usize {
        self.index.saturating_mul(self.format.segment_frames())
    }

    /// How many frames it has, at least 1.
    pub fn frames(&self) -> usize {
        self.samples.len()
    }

    /// Its frames as units of H.264, each with its length before it in four bytes
    /// (ISO/IEC 14496-15); without parameter sets.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Takes frames one at a time and gives a [`Segment`] whenever one is complete.
///
/// It holds the pictures of one segment, width x height x 1.5 bytes each, because a segment that
/// the encoder cannot encode is encoded once more with coarser steps.
pub struct SegmentEncoder {
    format: VideoFormat,
    /// The segment that is being made.
    index: usize,
    /// The range of the quantiser it is tried with.
    quantisers: usize,
    /// Pictures that were used by segments before, or are of this one.
    pictures: Vec<YUVBuffer>,
    attempt: Option<Attempt>,
    /// How many of `pictures` are of this segment.
    taken: usize,
}

impl SegmentEncoder {
    /// Begins at the first frame of a clip.
    pub fn new(format: VideoFormat) -> Self {
        Self::starting_at(format, 0)
    }

    /// Begins at the start of segment `index`: the next frame is number
    /// `index * format.segment_frames()`.
    pub fn starting_at(format: VideoFormat, index: usize) -> Self {
        Self { format, index, quantisers: 0, pictures: Vec::new(), attempt: None, taken: 0 }
    }

    /// Size and rate of the frames.
    pub fn format(&self) -> VideoFormat {
        self.format
    }

    /// The number of the frame that is expected next, from 0.
    pub fn next_frame(&self) -> usize {
        self.index.saturating_mul(self.format.segment_frames()).saturating_add(self.taken)
    }

    /// Takes the next frame, height x width x 3 bytes of RGB, and gives the segment that it
    /// completes.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not one frame of this format; [`Error::Encode`] if the encoder
    /// fails with its coarsest steps; [`Error::Dropped`]; [`Error::Mux`] if what the encoder made
    /// does not fit into an MP4 file. After an error of the last three the encoder is of no more
    /// use.
    pub fn push(&mut self, rgb: &[u8]) -> Result<Option<Segment>> {
        let (width, height) = (self.format.width(), self.format.height());
        if rgb.len() != self.format.frame_bytes() {
            return Err(Error::Shape { width, height, bytes: rgb.len() });
        }
        if self.pictures.len() == self.taken {
            self.pictures.push(YUVBuffer::new(width, height));
        }
        self.pictures[self.taken].read_rgb8(RgbSliceU8::new(rgb, (width, height)));
        self.taken += 1;
        while let Err(error) = self.catch_up() {
            let is_last = self.quantisers + 1 == QUANTISERS.len();
            if is_last || !matches!(error, Error::Encode(_)) {
                return Err(error);
            }
            self.quantisers += 1;
            self.attempt = None;
        }
        Ok(if self.taken == self.format.segment_frames() { self.take() } else { None })
    }

    /// The last segment, if there are frames that no segment has given yet.
    pub fn finish(mut self) -> Option<Segment> {
        self.take()
    }

    /// Encodes what of this segment is not encoded yet: the last picture, or all of them.
    fn catch_up(&mut self) -> Result<()> {
        let first = self.index.saturating_mul(self.format.segment_frames());
        let attempt = match &mut self.attempt {
            Some(attempt) => attempt,
            none => none.insert(Attempt::new(self.format, QUANTISERS[self.quantisers])?),
        };
        for (place, picture) in self.pictures[..self.taken].iter().enumerate() {
            if place >= attempt.made.samples.len() {
                attempt.add(picture, first.saturating_add(place))?;
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Segment> {
        let Made { parameters, samples, bytes } = self.attempt.take()?.made;
        let segment =
            Segment { format: self.format, index: self.index, parameters, samples, bytes };
        self.index += 1;
        (self.taken, self.quantisers) = (0, 0);
        Some(segment)
    }
}

/// A segment as far as it is encoded with one range of the quantiser.
struct Attempt {
    encoder: Encoder,
    made: Made,
}

impl Attempt {
    fn new(format: VideoFormat, quantisers: (u8, u8)) -> Result<Self> {
        let config = encoder_config(format, quantisers);
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)?;
        Ok(Self { encoder, made: Made::default() })
    }

    /// Encodes the next picture, which is number `index` of the clip.
    fn add(&mut self, picture: &YUVBuffer, index: usize) -> Result<()> {
        let encoded = self.encoder.encode(picture)?;
        let is_key = match encoded.frame_type() {
            FrameType::IDR => true,
            FrameType::Skip | FrameType::Invalid => return Err(Error::Dropped { index }),
            _ => false,
        };
        let start = self.made.bytes.len();
        for layer in (0..encoded.num_layers()).filter_map(|layer| encoded.layer(layer)) {
            for unit in (0..layer.nal_count()).filter_map(|unit| layer.nal_unit(unit)) {
                self.made.add_unit(unit, index)?;
            }
        }
        let bytes = self.made.bytes.len() - start;
        if bytes == 0 || (self.made.samples.is_empty() && !is_key) {
            return Err(Error::Dropped { index });
        }
        let bytes = u32::try_from(bytes).map_err(|_| MuxError::TooLarge)?;
        self.made.samples.push(Sample { bytes, is_key });
        Ok(())
    }
}

/// What has been encoded of a segment.
#[derive(Default)]
struct Made {
    parameters: Parameters,
    samples: Vec<Sample>,
    bytes: Vec<u8>,
}

impl Made {
    /// A unit with its start code before it, of frame `frame`.
    fn add_unit(&mut self, unit: &[u8], frame: usize) -> Result<(), MuxError> {
        let zeros = unit.iter().take_while(|byte| **byte == 0).count();
        let unit = unit.get(zeros + 1..).unwrap_or_default();
        let set = match unit.first().map(|head| head & 31) {
            Some(SEQUENCE_PARAMETERS) => &mut self.parameters.sequence,
            Some(PICTURE_PARAMETERS) => &mut self.parameters.picture,
            _ => {
                let length = u32::try_from(unit.len()).map_err(|_| MuxError::TooLarge)?;
                self.bytes.extend(length.to_be_bytes());
                self.bytes.extend(unit);
                return Ok(());
            }
        };
        // A key frame in the midst of a segment, at a cut, repeats them.
        if !set.is_empty() && set != unit {
            return Err(MuxError::ParametersChange { frame });
        }
        *set = unit.to_vec();
        Ok(())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive numbers, far below 2^32 or at its end"
)]
/// The encoder's settings: highest quality, no dropped frames, colours labelled.
fn encoder_config(format: VideoFormat, quantisers: (u8, u8)) -> EncoderConfig {
    let fps = format.fps();
    let pixels_per_second = (format.width() * format.height()) as f64 * fps;
    let bits_per_second = (pixels_per_second * BITS_PER_PIXEL)
        .clamp(*BITS_PER_SECOND.start(), *BITS_PER_SECOND.end());
    // `YUVBuffer` converts with the BT.601 matrix at any size. Without a label, players assume
    // BT.709 for large clips, which shifts the colours. Primaries are those of a screen.
    let colours = VuiConfig::bt709().matrix_coefficients(MatrixCoefficients::Smpte170M);
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
        // The bytes must not depend on the number of cores.
        .num_threads(1)
        .intra_frame_period(IntraFramePeriod::from_num_frames(format.segment_frames() as u32))
        .vui(colours)
}
