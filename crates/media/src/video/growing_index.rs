//! What a growing file holds, read back from it.
//!
//! A box is taken for whole only if it is, byte by byte, what we write for what is read from it, so
//! nothing in a damaged or foreign file is believed: its counts are at most those of a segment, its
//! sizes end within the file.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::boxes::{self, HEADER_BYTES, HIDDEN, SHOWN, Stream};
use super::format::{SEGMENT_FRAMES_MAX, VideoFormat};
use super::segments::Sample;
use crate::error::{Error, Result, StructureError};

/// Most bytes of `ftyp` or `moov` at the beginning; we write fewer than 1000.
const HEAD_BYTES_MAX: usize = 1 << 14;

/// Most bytes of `moof`: 8 of each frame and a hundred.
const MOOF_BYTES_MAX: usize = 256 + 8 * SEGMENT_FRAMES_MAX;

/// Most units of a frame. OpenH264 makes one.
const UNITS_MAX: usize = 16;

/// Bytes of the length before each unit.
const PREFIX_BYTES: usize = 4;

/// The whole segments of a growing file: 8 bytes of memory a frame and 16 a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrowingIndex {
    stream: Stream,
    samples: Vec<Sample>,
    /// Where the frames of each segment lie.
    payloads: Vec<Range<u64>>,
}

/// Where a run goes on that was stopped while it wrote a growing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Segments that are there with all their frames.
    pub segments: usize,
    /// The frame to go on with, from 0: the frames of those segments.
    pub next_frame: usize,
    /// What the file is to be cut to, in bytes.
    pub bytes: u64,
}

impl GrowingIndex {
    /// Reads the first `length` bytes of a file that [`GrowingMp4`](crate::GrowingMp4) made. What
    /// follows the last whole segment, cut off or hidden, is left out; none if the first segment is
    /// not whole.
    ///
    /// Give the length that is known to be on the disk: of what was written later, a system that
    /// stopped may have kept the length without the contents.
    ///
    /// # Errors
    /// [`Error::Structure`] if it is damaged or no such file, [`Error::Io`] if it cannot be read.
    pub fn read(file: &mut (impl Read + Seek), length: u64) -> Result<Option<Self>> {
        let there = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let mut file = Part { file, length: length.min(there) };
        let Some((stream, mut at)) = file.head()? else { return Ok(None) };
        let mut index = Self { stream, samples: Vec::new(), payloads: Vec::new() };
        while let Some((samples, payload)) = file.fragment(at, &index)? {
            at = payload.end;
            index.samples.extend(samples);
            index.payloads.push(payload);
        }
        Ok((!index.samples.is_empty()).then_some(index))
    }

    /// Size and rate of the frames.
    pub fn format(&self) -> VideoFormat {
        self.stream.format
    }

    /// Frames in all whole segments, at least 1: all of the clip's if the last segment is there.
    pub fn frames(&self) -> usize {
        self.samples.len()
    }

    /// Where the last whole segment ends, in bytes.
    pub fn bytes(&self) -> u64 {
        self.payloads.last().map_or(0, |payload| payload.end)
    }

    /// Where a run goes on. A last segment with fewer frames than the others is not counted: it
    /// ends a clip, and is there only where all frames are.
    pub fn resume_point(&self) -> ResumePoint {
        let each = self.format().segment_frames();
        let segments = self.samples.len() / each;
        let last = segments.checked_sub(1).and_then(|last| self.payloads.get(last));
        let bytes = last.map_or(0, |payload| payload.end);
        ResumePoint { segments, next_frame: segments * each, bytes }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(super) fn payloads(&self) -> &[Range<u64>] {
        &self.payloads
    }
}

fn unreadable(source: io::Error) -> Error {
    Error::Io { doing: "read the growing video", source }
}

/// The name that a box should have.
#[derive(Clone, Copy)]
struct BoxName(&'static str);

impl BoxName {
    /// Whether a box is called so. A fragment may have a part of its name, if the writer was
    /// stopped while it wrote it over the other one.
    fn is(self, found: &[u8]) -> bool {
        let between = |(i, byte)| byte == &SHOWN[i] || byte == &HIDDEN[i];
        found == self.0.as_bytes()
            || (self.0.as_bytes() == SHOWN && found.iter().enumerate().all(between))
    }
}

/// The first bytes of a file.
struct Part<'f, F> {
    file: &'f mut F,
    length: u64,
}

impl<F: Read + Seek> Part<'_, F> {
    /// `count` bytes from byte `at` on; none if the part ends before.
    fn bytes(&mut self, at: u64, count: usize) -> Result<Option<Vec<u8>>> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        let mut bytes = vec![0; count];
        self.file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        self.file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(Some(bytes))
    }

    /// The box at byte `at`, of at most `most` bytes; none if the part ends before.
    fn whole(&mut self, at: u64, name: BoxName, most: usize) -> Result<Option<Vec<u8>>> {
        let Some(header) = self.bytes(at, HEADER_BYTES)? else { return Ok(None) };
        let (size, found) = header.split_at(4);
        let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        if !name.is(found) || !(HEADER_BYTES..=most).contains(&size) {
            return Err(not_ours(at, name.0));
        }
        self.bytes(at, size)
    }

    /// What the file says at its beginning, and where that ends.
    fn head(&mut self) -> Result<Option<(Stream, u64)>> {
        let Some(mut head) = self.whole(0, BoxName("ftyp"), HEAD_BYTES_MAX)? else {
            return Ok(None);
        };
        let at = head.len() as u64;
        let Some(moov) = self.whole(at, BoxName("moov"), HEAD_BYTES_MAX)? else { return Ok(None) };
        head.extend(&moov);
        let wrong = || not_ours(0, "ftyp and moov of a growing file");
        let stream = boxes::stream_of(&moov).ok_or_else(wrong)?;
        match boxes::growing_head(&stream) {
            Ok(ours) if ours == head => Ok(Some((stream, head.len() as u64))),
            _ => Err(wrong()),
        }
    }

    /// The fragment at byte `at`, which follows those of `before`: its frames and where they lie.
    fn fragment(
        &mut self,
        at: u64,
        before: &GrowingIndex,
    ) -> Result<Option<(Vec<Sample>, Range<u64>)>> {
        let (each, first) = (before.format().segment_frames(), before.frames());
        if at < self.length && !first.is_multiple_of(each) {
            return Err(not_ours(at, "the end, since a segment that is not whole came before"));
        }
        let Some(mut moof) = self.whole(at, BoxName("moof"), MOOF_BYTES_MAX)? else {
            return Ok(None);
        };
        let is_hidden = moof[4..HEADER_BYTES] != SHOWN;
        moof[4..HEADER_BYTES].copy_from_slice(&SHOWN);
        let wrong = || not_ours(at, "moof and mdat of the next segment");
        let samples = boxes::samples_of(&moof).ok_or_else(wrong)?;
        if !(1..=each).contains(&samples.len()) {
            return Err(wrong());
        }
        let index = before.payloads.len();
        let ours = boxes::fragment_head(&before.stream, index, first, &samples);
        let ours = ours.map_err(|_| wrong())?;
        if moof.len() > ours.len() {
            return Err(wrong());
        }
        let Some(mut head) = self.bytes(at, ours.len())? else { return Ok(None) };
        head[..moof.len()].copy_from_slice(&moof);
        if head != ours {
            return Err(wrong());
        }
        let start = at + head.len() as u64;
        let end = start + samples.iter().map(|sample| u64::from(sample.bytes)).sum::<u64>();
        if is_hidden && end < self.length {
            return Err(wrong());
        }
        if is_hidden || end > self.length {
            return Ok(None);
        }
        self.check_units(start, &samples)?;
        Ok(Some((samples, start..end)))
    }

    /// Whether the units of each frame add up to it.
    fn check_units(&mut self, start: u64, samples: &[Sample]) -> Result<()> {
        let mut at = start;
        for sample in samples {
            let end = at + u64::from(sample.bytes);
            for _ in 0..UNITS_MAX {
                let prefix = self.bytes(at, PREFIX_BYTES)?.unwrap_or_default();
                let length = prefix.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
                let next = at + PREFIX_BYTES as u64 + length;
                if length == 0 || next > end {
                    return Err(not_ours(at, "a unit of H.264"));
                }
                at = next;
                if at == end {
                    break;
                }
            }
            if at != end {
                return Err(not_ours(at, "the next frame"));
            }
        }
        Ok(())
    }
}

fn not_ours(at: u64, expected: &'static str) -> Error {
    StructureError::NotOurs { at, expected }.into()
}
