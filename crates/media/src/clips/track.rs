//! The H.264 track of an MP4 file, sample by sample.
//!
//! The index (`moov`) is read whole, samples one by one, each bounded by the file: counts, sizes and
//! offsets are the file's own words.

use shiguredo_mp4::boxes::{AvccBox, SampleEntry};
use shiguredo_mp4::demux::{DemuxError, Mp4FileDemuxer};
use wan_border::files::{Content, OpenFile};

use crate::error::{Error, Result};
use crate::video::mp4_tags::{is_fragmented, tags_of};

/// Most reads until the index is found: each passes over one box at least.
const READS_MAX: usize = 10_000;

/// Most bytes of the head of a box, which are asked for at its beginning.
const HEADER_MAX: u64 = 32;

/// What is said of a file with no frames but those in fragments.
const FRAGMENTED: &str = "a fragmented MP4 file, as a video is while it is being written; give \
                          the finished one, or make a plain one with \
                          `ffmpeg -i IN.mp4 -c copy OUT.mp4`";

/// Before each unit of an H.264 stream.
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// An H.264 track.
pub(super) struct Track<'f> {
    file: &'f mut OpenFile,
    demuxer: Mp4FileDemuxer,
    /// Which of the tracks it is, once it has been found.
    id: Option<u32>,
    /// Whether frames are in fragments, which are not read.
    has_fragments: bool,
    /// Bytes of the length that stands before each unit of a sample.
    prefix: usize,
    /// Bytes of all samples so far, of all tracks.
    passed: u64,
}

impl<'f> Track<'f> {
    /// Reads the index of the file.
    pub(super) fn of(file: &'f mut OpenFile) -> Result<Self> {
        let length = file.length();
        let (mut demuxer, mut has_fragments) = (Mp4FileDemuxer::new(), false);
        for _ in 0..READS_MAX {
            let Some(wanted) = demuxer.required_input() else { break };
            let size = wanted.size.map(|size| size as u64);
            let bytes = file.part(wanted.position, size, Content::ClipIndex)?;
            let (found, size) = (bytes.len() as u64, size.unwrap_or(0));
            if found < size && (found == 0 || size > HEADER_MAX) {
                return Err(Error::Clip {
                    path: file.path().into(),
                    why: format!(
                        "cut short, or no MP4: {size} bytes of it should begin at byte {}, the \
                         file has {length}",
                        wanted.position
                    ),
                });
            }
            if size > HEADER_MAX && bytes[4..].starts_with(b"moov") {
                let why = |error| format!("damaged: {error}");
                let wrong = |error| Error::Clip { path: file.path().into(), why: why(error) };
                tags_of(&bytes).map_err(wrong)?;
                has_fragments = is_fragmented(&bytes).map_err(wrong)?;
            }
            demuxer.handle_input(wanted.to_input(&bytes));
        }
        let mut track = Self { file, demuxer, id: None, has_fragments, prefix: 0, passed: 0 };
        let readable = track.demuxer.tracks().map(drop);
        readable.map_err(|error| track.unreadable(&error))?;
        Ok(track)
    }

    /// The units of the next sample, each with its start code; parameter sets come first where they
    /// are new.
    pub(super) fn next_sample(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        loop {
            let sample = match self.demuxer.next_sample() {
                Ok(Some(sample)) => sample,
                Ok(None) if self.id.is_none() => {
                    let why = if self.has_fragments { FRAGMENTED } else { "no H.264 video in it" };
                    return Err(self.wrong(why.into()));
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.unreadable(&error)),
            };
            let (offset, size) = (sample.data_offset, sample.data_size as u64);
            let track = sample.track.track_id;
            let entry = sample.sample_entry.map(sets_of);
            self.passed += size;
            let length = self.file.length();
            let is_outside = offset.checked_add(size).is_none_or(|end| end > length);
            if is_outside || self.passed > length {
                return Err(self.wrong(format!(
                    "cut short or damaged: a sample of {size} bytes at byte {offset}, the file has \
                     {length}"
                )));
            }
            if self.id.is_none() && matches!(entry, Some(Some(_))) {
                self.id = Some(track);
            }
            if self.id != Some(track) {
                continue;
            }
            let mut units = Vec::new();
            match entry {
                Some(Some((prefix, sets))) => (self.prefix, units) = (prefix, sets),
                Some(None) => return Err(self.wrong("its format changes midway".into())),
                None => {}
            }
            self.add_units(&mut units, offset, size)?;
            return Ok(Some(units));
        }
    }

    fn add_units(&mut self, units: &mut Vec<Vec<u8>>, offset: u64, size: u64) -> Result<()> {
        let bytes = self.file.part(offset, Some(size), Content::ClipIndex)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Some((unit, after)) = first_unit(rest, self.prefix) else {
                return Err(self.wrong(format!("damaged: a unit of the sample at byte {offset}")));
            };
            units.push([&START_CODE, unit].concat());
            rest = after;
        }
        Ok(())
    }

    fn unreadable(&self, error: &DemuxError) -> Error {
        // Where in its own sources the reader stood tells nobody anything.
        let said = error.to_string();
        let said = said.split(" (at src/").next().unwrap_or_default();
        self.wrong(format!("not a readable MP4 file ({said})"))
    }

    fn wrong(&self, why: String) -> Error {
        Error::Clip { path: self.file.path().into(), why }
    }
}

/// The first unit of a sample, whose length stands before it, and what follows.
fn first_unit(sample: &[u8], prefix: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sample.split_at_checked(prefix)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// Bytes of the length before each unit, and the parameter sets; none where it is not H.264.
fn sets_of(entry: &SampleEntry) -> Option<(usize, Vec<Vec<u8>>)> {
    let SampleEntry::Avc1(entry) = entry else { return None };
    let AvccBox { sps_list, pps_list, length_size_minus_one, .. } = &entry.avcc_box;
    let sets = sps_list.iter().chain(pps_list).map(|set| [&START_CODE, set.as_slice()].concat());
    Some((usize::from(length_size_minus_one.get()) + 1, sets.collect()))
}
