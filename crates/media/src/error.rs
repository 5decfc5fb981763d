//! Errors of reading and writing videos and pictures.

use std::io;
use std::path::PathBuf;

use wan_border::files;

/// Result of this crate's fallible calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a video or picture was not encoded or read. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pixels do not make up whole frames of the stated size.
    #[error("{bytes} bytes are not a whole number of {width}x{height} RGB frames (at least one)")]
    Shape {
        /// Frame width in pixels.
        width: usize,
        /// Frame height in pixels.
        height: usize,
        /// Length of the pixel buffer.
        bytes: usize,
    },
    /// H.264 stores colour at half resolution, so both sides must be even.
    #[error("H.264 video needs an even width and height, not {width}x{height}")]
    OddSize {
        /// Frame width in pixels.
        width: usize,
        /// Frame height in pixels.
        height: usize,
    },
    /// The frame rate is not a positive, finite number.
    #[error("{fps} is not a frame rate; give frames per second, for example 16")]
    FrameRate {
        /// What was asked for, in frames per second.
        fps: f64,
    },
    /// A chosen frame does not exist.
    #[error("frame {index} was asked for, but the clip ends at frame {last}")]
    NoSuchFrame {
        /// The frame asked for, from 0.
        index: usize,
        /// The last frame there is.
        last: usize,
    },
    /// The H.264 encoder refused the clip.
    #[error("cannot encode the video as H.264")]
    Encode(#[from] openh264::Error),
    /// The encoder left a frame out, which would shift all later ones.
    #[error("the H.264 encoder dropped frame {index}")]
    Dropped {
        /// The frame that is missing, from 0.
        index: usize,
    },
    /// The encoded frames do not fit into an MP4 file.
    #[error("cannot put the video into an MP4 file")]
    Mux(#[from] MuxError),
    /// The growing file was not read, or the final file not written.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An MP4 file is not built as expected.
    #[error("cannot read the MP4 structure: {0}")]
    Structure(#[from] StructureError),
    /// The PNG writer failed.
    #[error("cannot encode the picture as PNG")]
    Png(#[from] png::EncodingError),
    /// A picture or clip cannot be opened or read, or its reader panicked.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file is no picture of a known format, or is damaged.
    #[error("{}: not a PNG, JPEG or WebP picture ({source})", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// A picture is cut short.
    #[error("{}: cut short: the JPEG data have no end; save or fetch it once more", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
    },
    /// A picture or a clip has more pixels than are read.
    #[error("{}: {found} pixels, {limit} are the most that are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: String,
        /// The largest size.
        limit: String,
    },
    /// A file is no MP4 with H.264 video, or is damaged.
    #[error("{}: {why}", path.display())]
    Clip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether a picture or clip that was given is at fault, and no file that was to be written.
    pub fn is_of_what_was_given(&self) -> bool {
        matches!(
            self,
            Self::File(_)
                | Self::Picture { .. }
                | Self::CutShort { .. }
                | Self::TooLarge { .. }
                | Self::Clip { .. }
        )
    }
}

/// Why encoded frames do not fit into an MP4 file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// Another segment is due.
    #[error("segment {found} was given, segment {expected} is next")]
    OutOfOrder {
        /// The number of the segment that is due, from 0.
        expected: usize,
        /// The number of the one that was given.
        found: usize,
    },
    /// A segment has fewer frames than all but the last have.
    #[error("segment {last} has fewer frames than a whole segment, so none can follow it")]
    AfterTheLast {
        /// The number of the short segment, from 0.
        last: usize,
    },
    /// A segment has another size or rate than the file.
    #[error("segment {segment} has another size or frame rate than the segments before it")]
    OtherFormat {
        /// The number of the segment, from 0.
        segment: usize,
    },
    /// A segment needs other parameter sets than the file has at its beginning.
    #[error(
        "the H.264 parameters of segment {segment} are not those of the segments before it; was \
         the file begun by another version of the program?"
    )]
    OtherParameters {
        /// The number of the segment, from 0.
        segment: usize,
    },
    /// The encoder changed its parameter sets within a segment.
    #[error("the H.264 encoder changed its parameters at frame {frame}")]
    ParametersChange {
        /// The frame, from 0.
        frame: usize,
    },
    /// The encoder gave no parameter sets.
    #[error("the H.264 encoder gave no parameters")]
    NoParameters,
    /// A number does not fit into its field.
    #[error("it is too large or too long for the fields of MP4")]
    TooLarge,
    /// The writer of boxes refused.
    #[error("a box cannot be written: {0}")]
    Boxes(String),
}

impl From<shiguredo_mp4::Error> for MuxError {
    fn from(error: shiguredo_mp4::Error) -> Self {
        Self::Boxes(error.reason)
    }
}

/// Why the boxes of an MP4 file could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StructureError {
    /// A required box is missing.
    #[error("it has no `{0}` box")]
    Missing(&'static str),
    /// A box is longer than the box or file that contains it.
    #[error("the box at byte {0} is cut off")]
    Truncated(usize),
    /// A growing file has something else where we write a certain box.
    #[error("it is damaged, or no growing file of ours: at byte {at} should be {expected}")]
    NotOurs {
        /// Where it is, in bytes.
        at: u64,
        /// What stands there in a whole file.
        expected: &'static str,
    },
}
