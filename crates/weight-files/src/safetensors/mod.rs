//! safetensors: the length of a header, the header in JSON, the bytes of the tensors.

pub(crate) mod dtype;
mod header;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::container::{Container, Reader};
use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::tensor_info::{TensorInfo, elements};
use header::{Entry, Header};

/// Bytes of the header's length, which is before the header.
const PREFIX: u64 = 8;

/// Longest header that is read, in bytes. The format allows 100 MB; that of a 14B model has 0.2,
/// and what is made of a header takes several times its bytes.
const HEADER_MAX: u64 = 16 << 20;

pub(crate) const READER: Reader = Reader { name: "safetensors", recognises, open };

struct Safetensors {
    tensors: Vec<TensorInfo>,
    /// Where each begins in the file.
    starts: Vec<u64>,
    metadata: BTreeMap<String, String>,
}

fn recognises(first: &[u8], length: u64) -> bool {
    let header = first.first_chunk::<8>().map(|prefix| u64::from_le_bytes(*prefix));
    first.get(8) == Some(&b'{') && header.is_some_and(|header| header <= length - PREFIX)
}

fn open(file: &FileBytes) -> Result<Box<dyn Container>> {
    let prefix = file.exactly(0..PREFIX)?;
    let header = prefix.first_chunk::<8>().map_or(0, |prefix| u64::from_le_bytes(*prefix));
    if header > HEADER_MAX {
        return Err(file.malformed(format!(
            "damaged, or no file of tensors: the header should have {header} bytes, at most \
             {HEADER_MAX} are read"
        )));
    }
    let header_end = PREFIX + header;
    let header: Header = serde_json::from_slice(&file.exactly(PREFIX..header_end)?)
        .map_err(|e| file.malformed(format!("damaged: the header cannot be read: {e}")))?;
    let Header { words, mut entries } = header;
    check_names(file, &entries)?;
    entries.sort_by(|left, right| (left.bytes, &left.name).cmp(&(right.bytes, &right.name)));
    let data = check_layout(file, &entries)?;
    let expected = header_end.saturating_add(data);
    if file.length() < expected {
        return Err(file.malformed(format!(
            "cut short: the header describes {expected} bytes, the file has {}; download it again",
            file.length()
        )));
    }
    if file.length() > expected {
        return Err(file.malformed(format!(
            "damaged: the header describes {expected} bytes, the file has {}; download it again",
            file.length()
        )));
    }
    let starts = entries.iter().map(|entry| header_end + entry.bytes.0).collect();
    let info = |Entry { name, shape, encoding, .. }| TensorInfo { name, shape, encoding };
    let tensors = entries.into_iter().map(info).collect();
    Ok(Box::new(Safetensors { tensors, starts, metadata: words }))
}

fn check_names(file: &FileBytes, entries: &[Entry]) -> Result<()> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(file.malformed(format!("damaged: tensor `{}` is there twice", pair[0]))),
        None => Ok(()),
    }
}

/// Bytes of all tensors. Sorted entries must follow each other without a gap, as the format says.
fn check_layout(file: &FileBytes, entries: &[Entry]) -> Result<u64> {
    let (mut expected, mut before) = (0, "");
    for Entry { name, shape, encoding, bytes: (start, end) } in entries {
        let size = elements(shape).and_then(|elements| encoding.bytes(elements));
        if size.is_none() || end.checked_sub(*start) != size {
            let size = size.map_or("no size in whole".to_owned(), |size| size.to_string());
            return Err(file.malformed(format!(
                "damaged: tensor `{name}` of shape {shape:?} in {} has {size} bytes, the header \
                 gives it bytes {start} to {end}",
                encoding.name()
            )));
        }
        if *start < expected {
            return Err(file.malformed(format!(
                "damaged: tensors `{before}` and `{name}` share bytes: the one ends at byte \
                 {expected}, the other begins at byte {start}"
            )));
        }
        if *start > expected {
            return Err(file.malformed(format!(
                "damaged: tensor `{name}` begins at byte {start}, but bytes from {expected} on \
                 belong to no tensor"
            )));
        }
        (expected, before) = (*end, name);
    }
    Ok(expected)
}

impl Container for Safetensors {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn read(&self, file: &FileBytes, number: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let start = self.starts[number];
        file.exactly(start + range.start..start + range.end)
    }
}
