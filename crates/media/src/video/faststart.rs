//! The final file: plain MP4 with the index before the pictures, so that a browser can start
//! playing at once.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::boxes::{self, HEADER_BYTES, SampleTable};
use super::growing_index::GrowingIndex;
use super::mp4_tags::{VideoTags, user_data};
use crate::error::{Error, Result};

/// Bytes of pictures that are held while they are copied.
const COPIED_BYTES: usize = 1 << 16;

impl GrowingIndex {
    /// Writes the segments of `growing`, the file that was read, as a plain MP4 file with its index
    /// before the pictures, and `tags`.
    ///
    /// The bytes depend on frames, rate and tags alone. The index is held in memory, about 20 bytes
    /// a frame while it is written; the pictures are copied piece by piece. Segments that are not
    /// in this index are left out: compare [`Self::frames`] with what should be there.
    ///
    /// # Errors
    /// [`Error::Io`] if `growing` cannot be read or `out` not be written, and [`Error::Mux`] if the
    /// index is too large.
    pub fn write_faststart(
        &self,
        growing: &mut (impl Read + Seek),
        tags: &VideoTags,
        out: &mut impl Write,
    ) -> Result<()> {
        out.write_all(&self.faststart_head(tags)?).map_err(unwritable)?;
        let mut buffer = vec![0; COPIED_BYTES];
        for payload in self.payloads() {
            growing.seek(SeekFrom::Start(payload.start)).map_err(unreadable)?;
            let mut left = payload.end - payload.start;
            while left > 0 {
                let count = usize::try_from(left).map_or(COPIED_BYTES, |n| n.min(COPIED_BYTES));
                growing.read_exact(&mut buffer[..count]).map_err(unreadable)?;
                out.write_all(&buffer[..count]).map_err(unwritable)?;
                left -= count as u64;
            }
        }
        Ok(())
    }

    /// All that stands before the pictures.
    pub(super) fn faststart_head(&self, tags: &VideoTags) -> Result<Vec<u8>> {
        let bytes: u64 = self.payloads().iter().map(|payload| payload.end - payload.start).sum();
        let header = match u32::try_from(bytes + HEADER_BYTES as u64) {
            Ok(size) => [&size.to_be_bytes()[..], b"mdat"].concat(),
            // A size of 1 says that it follows the name in eight bytes, and counts them too.
            Err(_) => {
                let size = bytes + 2 * HEADER_BYTES as u64;
                [&1_u32.to_be_bytes()[..], b"mdat", &size.to_be_bytes()].concat()
            }
        };
        let head = |start, is_wide| {
            let chunk_frames = self.format().segment_frames();
            let table = SampleTable { samples: self.samples(), chunk_frames, start, is_wide };
            boxes::plain_head(self.stream(), &table, user_data(tags)).map_err(Error::Mux)
        };
        // The length of the index depends on the width of the places in it alone.
        let mut is_wide = u32::try_from(bytes).is_err();
        let mut start = (head(0, is_wide)?.len() + header.len()) as u64;
        if !is_wide && u32::try_from(start + bytes).is_err() {
            is_wide = true;
            start = (head(0, is_wide)?.len() + header.len()) as u64;
        }
        Ok([head(start, is_wide)?, header].concat())
    }
}

fn unreadable(source: io::Error) -> Error {
    Error::Io { doing: "read the growing video", source }
}

fn unwritable(source: io::Error) -> Error {
    Error::Io { doing: "write the video", source }
}
