//! An MP4 file that grows: each segment is a fragment (`moof`, `mdat`) that is put at its end.

use super::boxes::{self, Stream};
use super::format::VideoFormat;
use super::growing_index::GrowingIndex;
use super::segments::Segment;
use crate::error::{MuxError, Result};

/// Gives the bytes to put at the end of a fragmented MP4 file for each [`Segment`].
///
/// The file plays after the first of them, also while it is written and when it ends in the midst
/// of a fragment: what is not whole is not shown. Its length in time is what is there. It has no
/// tags: those are in the final file, see [`GrowingIndex::write_faststart`].
#[derive(Clone, Debug)]
pub struct GrowingMp4 {
    format: VideoFormat,
    /// What the file says at its beginning, once that is given.
    stream: Option<Stream>,
    /// The segment that is due.
    next: usize,
    /// Whether the one before it was short, and so the last.
    is_closed: bool,
}

impl GrowingMp4 {
    /// Begins a file.
    pub fn new(format: VideoFormat) -> Self {
        Self { format, stream: None, next: 0, is_closed: false }
    }

    /// Goes on with a file that holds what `index` found, cut to the bytes of
    /// [`GrowingIndex::resume_point`].
    pub fn resume(index: &GrowingIndex) -> Self {
        let next = index.resume_point().segments;
        let stream = (next > 0).then(|| index.stream().clone());
        Self { format: index.format(), stream, next, is_closed: false }
    }

    /// The number of the segment that is due, from 0.
    pub fn next_segment(&self) -> usize {
        self.next
    }

    /// The bytes that `segment` adds to the end of the file: the first, the head of the file too.
    ///
    /// # Errors
    /// [`Error::Mux`](crate::Error::Mux) if it is not the segment that is due, has another format
    /// or other parameter sets than those before it, or follows one that is not whole.
    pub fn append(&mut self, segment: &Segment) -> Result<Vec<u8>> {
        let (expected, found) = (self.next, segment.index);
        if self.is_closed {
            return Err(MuxError::AfterTheLast { last: expected.saturating_sub(1) }.into());
        }
        if found != expected {
            return Err(MuxError::OutOfOrder { expected, found }.into());
        }
        if segment.format != self.format {
            return Err(MuxError::OtherFormat { segment: found }.into());
        }
        let mut bytes = Vec::new();
        let stream = match &self.stream {
            Some(stream) => stream.clone(),
            None => {
                let parameters = segment.parameters.clone();
                let stream = Stream { format: self.format, parameters };
                bytes = boxes::growing_head(&stream)?;
                stream
            }
        };
        if stream.parameters != segment.parameters {
            return Err(MuxError::OtherParameters { segment: found }.into());
        }
        let first = segment.first_frame();
        bytes.extend(boxes::fragment_head(&stream, found, first, &segment.samples)?);
        bytes.extend(&segment.bytes);
        self.stream = Some(stream);
        self.next += 1;
        self.is_closed = segment.frames() < self.format.segment_frames();
        Ok(bytes)
    }
}
