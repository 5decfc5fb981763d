//! The metadata of a GGUF file: keys with values of any type.

use std::collections::BTreeMap;

use super::header_bytes::HeaderBytes;
use crate::error::Result;

/// Most keys that are read.
const KEYS_MAX: u64 = 1 << 16;

/// Longest key that is read, in bytes.
const KEY_MAX: u64 = 1024;

/// Bytes of a string that are kept.
const STRING_MAX: u64 = 1024;

/// Deepest arrays of arrays that are passed over.
const DEPTH_MAX: usize = 8;

/// Most dimensions of a shape in an array.
const SHAPE_MAX: u64 = 8;

/// Before the name of a tensor that another shape was stored for.
const ORIG_SHAPE: &str = "comfy.gguf.orig_shape.";

const TYPE_I32: u32 = 5;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// What is kept of it.
#[derive(Default)]
pub(super) struct Metadata {
    /// Scalars and the beginnings of strings.
    pub(super) texts: BTreeMap<String, String>,
    /// Shapes in torch's order that tensors had before they were written, by their names.
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
}

impl Metadata {
    /// Reads `count` keys.
    pub(super) fn read(header: &mut HeaderBytes, count: u64) -> Result<Self> {
        if count > KEYS_MAX {
            return Err(header.malformed(format!(
                "damaged: it should have {count} metadata keys, at most {KEYS_MAX} are read"
            )));
        }
        let mut metadata = Self::default();
        for _ in 0..count {
            let key = key(header)?;
            let value_type = header.u32()?;
            if metadata.has(&key) {
                return Err(header.malformed(format!("damaged: the key `{key}` is there twice")));
            }
            if value_type != TYPE_ARRAY {
                let text = scalar(header, &key, value_type)?;
                metadata.texts.insert(key, text);
            } else if let Some(name) = key.strip_prefix(ORIG_SHAPE) {
                let shape = shape(header, &key)?;
                metadata.shapes.insert(name.to_owned(), shape);
            } else {
                skip_array(header, &key)?;
            }
        }
        Ok(metadata)
    }

    fn has(&self, key: &str) -> bool {
        let shape = key.strip_prefix(ORIG_SHAPE).is_some_and(|name| self.shapes.contains_key(name));
        shape || self.texts.contains_key(key)
    }

    /// A number, if it is there and a whole one.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.texts.get(key)?.parse().ok()
    }
}

fn key(header: &mut HeaderBytes) -> Result<String> {
    let length = header.u64()?;
    if length > KEY_MAX {
        return Err(header.malformed(format!(
            "damaged: a metadata key has {length} bytes at byte {}, at most {KEY_MAX} are read",
            header.place()
        )));
    }
    let bytes = header.bytes(length)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn scalar(header: &mut HeaderBytes, key: &str, value_type: u32) -> Result<String> {
    let text = match value_type {
        0 => u8::from_le_bytes(header.array()?).to_string(),
        1 => i8::from_le_bytes(header.array()?).to_string(),
        2 => u16::from_le_bytes(header.array()?).to_string(),
        3 => i16::from_le_bytes(header.array()?).to_string(),
        4 => header.u32()?.to_string(),
        TYPE_I32 => i32::from_le_bytes(header.array()?).to_string(),
        6 => f32::from_le_bytes(header.array()?).to_string(),
        7 => (header.array()? != [0]).to_string(),
        TYPE_STRING => string(header)?,
        10 => header.u64()?.to_string(),
        11 => i64::from_le_bytes(header.array()?).to_string(),
        12 => f64::from_le_bytes(header.array()?).to_string(),
        _ => return Err(unknown(header, key, value_type)),
    };
    Ok(text)
}

/// A string, or its beginning and an ellipsis.
fn string(header: &mut HeaderBytes) -> Result<String> {
    let length = header.u64()?;
    let kept = length.min(STRING_MAX);
    let bytes = header.bytes(kept)?;
    header.skip(length - kept)?;
    if kept == length {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    // A character that the cut divides is left out.
    let whole = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Ok(format!("{whole}…"))
}

/// Bytes of a value of fixed size.
fn size(value_type: u32) -> Option<u64> {
    match value_type {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Passes over an array. Arrays of arrays are counted on a list of our own, which is bounded: the
/// file decides how deep they are.
fn skip_array(header: &mut HeaderBytes, key: &str) -> Result<()> {
    let mut open = vec![(header.u32()?, header.u64()?)];
    while let Some((element, count)) = open.last_mut() {
        if let Some(size) = size(*element) {
            // A product that does not fit is longer than any file.
            header.skip(count.saturating_mul(size))?;
            open.pop();
        } else if *count == 0 {
            open.pop();
        } else if *element == TYPE_STRING {
            *count -= 1;
            let length = header.u64()?;
            header.skip(length)?;
        } else if *element == TYPE_ARRAY {
            *count -= 1;
            if open.len() == DEPTH_MAX {
                return Err(header.malformed(format!(
                    "the metadata `{key}` has arrays within arrays, more than {DEPTH_MAX} deep"
                )));
            }
            open.push((header.u32()?, header.u64()?));
        } else {
            let element = *element;
            return Err(unknown(header, key, element));
        }
    }
    Ok(())
}

fn shape(header: &mut HeaderBytes, key: &str) -> Result<Vec<usize>> {
    let (element, count) = (header.u32()?, header.u64()?);
    if element != TYPE_I32 || count > SHAPE_MAX {
        return Err(header.malformed(format!(
            "the metadata `{key}` is an array of {count} values of type {element}, expected at \
             most {SHAPE_MAX} of type {TYPE_I32} (32 bits with sign)"
        )));
    }
    let mut shape = Vec::new();
    for _ in 0..count {
        let axis = i32::from_le_bytes(header.array()?);
        shape.push(usize::try_from(axis).map_err(|_| {
            header.malformed(format!("the metadata `{key}` has an axis of {axis} numbers"))
        })?);
    }
    Ok(shape)
}

fn unknown(header: &HeaderBytes, key: &str, value_type: u32) -> crate::error::Error {
    header.malformed(format!(
        "damaged or newer than this program: the metadata `{key}` is of type {value_type}, GGUF \
         has 0 to 12"
    ))
}
