//! An MP4 file that grows: each segment is a fragment (`moof`, `mdat`) that is put at its end.
//!
//! A fragment that is cut off does harm: Chromium 156 and ffmpeg 9 do not open a file that ends
//! within its `moof`, and stop with an error at one that ends within its `mdat`. So a fragment is
//! first written under the name of a box that players pass over, and named when all of it is there.

use std::io::{self, Seek, SeekFrom, Write};

use super::boxes::{self, HIDDEN, SHOWN, Stream};
use super::format::VideoFormat;
use super::growing_index::GrowingIndex;
use super::segments::Segment;
use crate::error::{Error, MuxError, Result};

/// Makes the fragment of a fragmented MP4 file for each [`Segment`].
///
/// The file plays once the first is written, also while it is written and when a writer was stopped
/// at any moment: a fragment is shown when it is whole. Its length in time is what is shown. It has
/// no tags: those are in the final file, see [`GrowingIndex::write_faststart`].
#[derive(Clone, Debug)]
pub struct GrowingMp4 {
    format: VideoFormat,
    /// What the file says at its beginning, once that is given.
    stream: Option<Stream>,
    /// The segment that is due.
    next: usize,
    /// Bytes of the file so far.
    length: u64,
    /// Whether the one before it was short, and so the last.
    is_closed: bool,
}

impl GrowingMp4 {
    /// Begins a file.
    pub fn new(format: VideoFormat) -> Self {
        Self { format, stream: None, next: 0, length: 0, is_closed: false }
    }

    /// Goes on with a file that holds what `index` found, cut to the bytes of
    /// [`GrowingIndex::resume_point`].
    pub fn resume(index: &GrowingIndex) -> Self {
        let there = index.resume_point();
        let (next, length) = (there.segments, there.bytes);
        let stream = (next > 0).then(|| index.stream().clone());
        Self { format: index.format(), stream, next, length, is_closed: false }
    }

    /// The number of the segment that is due, from 0.
    pub fn next_segment(&self) -> usize {
        self.next
    }

    /// What `segment` adds to the end of the file; the first, the head of the file too.
    ///
    /// # Errors
    /// [`Error::Mux`] if it is not the segment that is due, has another format
    /// or other parameter sets than those before it, or follows one that is not whole.
    pub fn append(&mut self, segment: &Segment) -> Result<Fragment> {
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
        let (at, name_at) = (self.length, bytes.len() + 4);
        let first = segment.first_frame();
        bytes.extend(boxes::fragment_head(&stream, found, first, &segment.samples)?);
        bytes[name_at..name_at + HIDDEN.len()].copy_from_slice(&HIDDEN);
        bytes.extend(&segment.bytes);
        self.stream = Some(stream);
        self.next += 1;
        self.length += bytes.len() as u64;
        self.is_closed = segment.frames() < self.format.segment_frames();
        Ok(Fragment { at, bytes, name_at })
    }
}

/// What a segment adds to a growing file: bytes, and a name to write into them afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    at: u64,
    bytes: Vec<u8>,
    /// Where in `bytes` the name stands.
    name_at: usize,
}

impl Fragment {
    /// Writes it to its place in the file, hidden, and then shows it.
    ///
    /// A program that is stopped between leaves a file that plays. If that must also hold for a
    /// system that stops, write [`Self::hidden`] and [`Self::name`] with a sync between.
    ///
    /// # Errors
    /// [`Error::Io`]. It can be written once more.
    pub fn write(&self, file: &mut (impl Write + Seek)) -> Result<()> {
        for (at, bytes) in [self.hidden(), self.name()] {
            let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes));
            written.and_then(|()| file.flush()).map_err(unwritable)?;
        }
        Ok(())
    }

    /// The bytes to write first and where in the file they begin: at its end, if that was cut to
    /// what is whole.
    pub fn hidden(&self) -> (u64, &[u8]) {
        (self.at, &self.bytes)
    }

    /// The bytes to write when those are there, over some of them, and where in the file.
    pub fn name(&self) -> (u64, &'static [u8]) {
        (self.at + self.name_at as u64, &SHOWN)
    }
}

fn unwritable(source: io::Error) -> Error {
    Error::Io { doing: "write the growing video", source }
}
