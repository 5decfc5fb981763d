//! Title, comment and description inside an MP4 file, where players and `ffprobe` look for them.
//!
//! They live in `moov / udta / meta / ilst` as iTunes-style items (QuickTime File Format
//! Specification, "Metadata item list"): `©nam`, `©cmt` and `desc`, each holding one `data` box of
//! UTF-8. Every box is a 32-bit big-endian size (itself included), four letters and a payload.

use std::ops::Range;
use std::path::Path;

use wan_border::files::{self, Content};
use wan_border::numbers::u32_of;

use crate::error::{self, StructureError};

/// Name of a box: four bytes.
type BoxName = [u8; 4];

const TITLE: BoxName = *b"\xa9nam";
const COMMENT: BoxName = *b"\xa9cmt";
const DESCRIPTION: BoxName = *b"desc";

/// Length of a box header: size and name.
const HEADER_BYTES: usize = 8;

/// Length of version and flags, with which `meta` and `hdlr` begin.
const VERSION_FLAGS_BYTES: usize = 4;

/// Texts about a video inside its file. An empty text is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoTags {
    /// `©nam`: the name that players show. `wan` writes the prompt.
    pub title: String,
    /// `©cmt`: any text. `wan` writes the whole sidecar, as JSON (docs/sidecar.md).
    pub comment: String,
    /// `desc`: a line for people. `wan` writes its own version.
    pub description: String,
}

impl VideoTags {
    /// The texts with the names of their boxes.
    fn items(&self) -> [(BoxName, &str); 3] {
        [(TITLE, &self.title), (COMMENT, &self.comment), (DESCRIPTION, &self.description)]
    }
}

/// Reads the tags of the MP4 file at `path`; absent texts are empty.
///
/// # Errors
/// [`error::Error::File`] if the file cannot be read, [`error::Error::Structure`] if it is no MP4.
pub fn read_tags(path: &Path) -> error::Result<VideoTags> {
    Ok(tags_of(&files::bytes(path, Content::Clip)?)?)
}

/// The tags of an MP4 file, or of its index alone.
pub(crate) fn tags_of(mp4: &[u8]) -> Result<VideoTags, StructureError> {
    let moov = find(mp4, 0..mp4.len(), *b"moov")?.ok_or(StructureError::Missing("moov"))?;
    let mut tags = VideoTags::default();
    let Some(udta) = find(mp4, moov, *b"udta")? else { return Ok(tags) };
    let Some(meta) = find(mp4, udta, *b"meta")? else { return Ok(tags) };
    let items = skip(meta, VERSION_FLAGS_BYTES)?;
    let Some(ilst) = find(mp4, items, *b"ilst")? else { return Ok(tags) };
    for child in boxes(mp4, ilst) {
        let (name, payload) = child?;
        let text = match name {
            TITLE => &mut tags.title,
            COMMENT => &mut tags.comment,
            DESCRIPTION => &mut tags.description,
            _ => continue,
        };
        if let Some(value) = find(mp4, payload, *b"data")? {
            let value = skip(value, 8)?; // type and locale
            *text = String::from_utf8_lossy(&mp4[value]).into_owned();
        }
    }
    Ok(tags)
}

/// The payload of the `udta` box for `tags`; none if all texts are empty.
pub(super) fn user_data(tags: &VideoTags) -> Option<Vec<u8>> {
    let mut items = Vec::new();
    for (name, text) in tags.items() {
        if !text.is_empty() {
            // Type 1 is UTF-8; locale 0 is "any".
            let value = [&[0, 0, 0, 1, 0, 0, 0, 0], text.as_bytes()].concat();
            items.extend(boxed(name, &boxed(*b"data", &value)));
        }
    }
    if items.is_empty() {
        return None;
    }
    // Version and flags, a reserved word, `mdir` of `appl`, two reserved words, an empty name:
    // without this handler readers do not take the list for iTunes-style items.
    let handler = boxed(*b"hdlr", b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0");
    let meta = [&[0; VERSION_FLAGS_BYTES], handler.as_slice(), &boxed(*b"ilst", &items)].concat();
    Some(boxed(*b"meta", &meta))
}

/// A box around `payload`. Tags are texts, so its size is far from 4 GiB.
fn boxed(name: BoxName, payload: &[u8]) -> Vec<u8> {
    let size = u32_of(HEADER_BYTES + payload.len());
    [&size.to_be_bytes(), name.as_slice(), payload].concat()
}

/// The payload of the first box called `name` directly inside `within`.
fn find(
    mp4: &[u8],
    within: Range<usize>,
    name: BoxName,
) -> Result<Option<Range<usize>>, StructureError> {
    for child in boxes(mp4, within) {
        let (found, payload) = child?;
        if found == name {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

/// Name and payload of each box directly inside `within`; ends after the first error.
fn boxes(
    mp4: &[u8],
    within: Range<usize>,
) -> impl Iterator<Item = Result<(BoxName, Range<usize>), StructureError>> {
    let mut at = within.start;
    std::iter::from_fn(move || {
        if at >= within.end {
            return None;
        }
        let one = box_at(mp4, at, &within);
        at = one.as_ref().map_or(within.end, |(_, payload)| payload.end);
        Some(one)
    })
}

/// The box at byte `at`, directly inside `within`. Only the last box of a file may leave its size
/// open.
fn box_at(
    mp4: &[u8],
    at: usize,
    within: &Range<usize>,
) -> Result<(BoxName, Range<usize>), StructureError> {
    let (end, is_outermost) = (within.end, *within == (0..mp4.len()));
    let cut_off = StructureError::Truncated(at);
    if end - at < HEADER_BYTES {
        return Err(cut_off);
    }
    let name = [mp4[at + 4], mp4[at + 5], mp4[at + 6], mp4[at + 7]];
    let size = u32::from_be_bytes([mp4[at], mp4[at + 1], mp4[at + 2], mp4[at + 3]]) as usize;
    let (header, size) = match size {
        0 if is_outermost => (HEADER_BYTES, end - at), // "up to the end"
        1 if end - at >= 16 => {
            let mut wide = [0; 8];
            wide.copy_from_slice(&mp4[at + 8..at + 16]);
            (16, usize::try_from(u64::from_be_bytes(wide)).unwrap_or(usize::MAX))
        }
        size => (HEADER_BYTES, size),
    };
    if size < header || size > end - at {
        return Err(cut_off);
    }
    Ok((name, at + header..at + size))
}

/// `range` without its first `bytes`.
fn skip(range: Range<usize>, bytes: usize) -> Result<Range<usize>, StructureError> {
    if range.len() < bytes {
        return Err(StructureError::Truncated(range.start));
    }
    Ok(range.start + bytes..range.end)
}
