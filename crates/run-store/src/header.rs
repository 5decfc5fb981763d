//! The header of a safetensors file.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

/// Longest header, in bytes: that of the safetensors library.
pub(crate) const HEADER_MAX: u64 = 100_000_000;

/// The key of what is no tensor.
const METADATA: &str = "__metadata__";

/// The header is padded to a multiple of this, so that the numbers behind it are aligned.
const ALIGNMENT: usize = 8;

/// A tensor that is lent to be written.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Its name: any text but `__metadata__`, and each once.
    pub name: &'a str,
    /// Its number format as safetensors names it: `F32`, `BF16`, `F8_E4M3`, ...
    pub dtype: &'a str,
    /// Its lengths, outermost first; none for one number.
    pub shape: &'a [usize],
    /// Its numbers, little endian.
    pub bytes: &'a [u8],
}

/// Where a tensor lies.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// From the first byte behind the header.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What a header says.
#[derive(Debug)]
pub(crate) struct Header {
    /// The entry `wan` of the metadata.
    pub(crate) text: String,
    /// In the order in which they were given.
    pub(crate) entries: Vec<Entry>,
}

/// Bytes of one number.
fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "F64" | "I64" | "U64" | "C64" => Some(8),
        "F32" | "I32" | "U32" => Some(4),
        "F16" | "BF16" | "I16" | "U16" => Some(2),
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => Some(1),
        _ => None,
    }
}

/// Whether format, shape and bytes of a tensor fit; why not.
fn check(name: &str, dtype: &str, shape: &[usize], bytes: u64) -> Result<(), String> {
    let Some(width) = width(dtype) else {
        return Err(format!("tensor {name:?}: unknown number format {dtype:?}"));
    };
    let count = |sum: u64, length: &usize| sum.checked_mul(u64::try_from(*length).ok()?);
    let expected = shape.iter().try_fold(width, count);
    if expected == Some(bytes) {
        return Ok(());
    }
    let expected = expected.map_or("more than 2^64".into(), |bytes| bytes.to_string());
    Err(format!("tensor {name:?}: {dtype} {shape:?} has {expected} bytes, found {bytes}"))
}

/// The header of these tensors, with its length before it, and the order in which they follow it:
/// wide numbers first, so that all of them are aligned.
///
/// # Errors
/// What does not fit.
pub(crate) fn write(
    text: &str,
    tensors: &[TensorView<'_>],
) -> Result<(Vec<u8>, Vec<usize>), String> {
    let mut names = BTreeSet::from([METADATA]);
    for tensor in tensors {
        let TensorView { name, dtype, shape, bytes } = *tensor;
        check(name, dtype, shape, bytes.len() as u64)?;
        if !names.insert(name) {
            return Err(format!("tensor {name:?}: the name is taken"));
        }
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(width(tensors[*index].dtype)));
    let mut starts = vec![0; tensors.len()];
    let mut end = 0;
    for index in &order {
        starts[*index] = end;
        end += tensors[*index].bytes.len() as u64;
    }
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut header = format!("{{\"{METADATA}\":{{\"wan\":{}}}", quoted(text));
    for (tensor, start) in tensors.iter().zip(starts) {
        let (name, end) = (quoted(tensor.name), start + tensor.bytes.len() as u64);
        let TensorView { dtype, shape, .. } = tensor;
        header += &format!(
            ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        );
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', header.len().wrapping_neg() % ALIGNMENT));
    let length = header.len() as u64;
    if length > HEADER_MAX {
        return Err(format!("the header would have {length} bytes, at most {HEADER_MAX} fit"));
    }
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    Ok((bytes, order))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    wan: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// A header before its places are checked.
struct Document {
    text: Option<String>,
    entries: Vec<Entry>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Document;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document { text: None, entries: Vec::new() };
                let mut names = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name:?} stands there twice")));
                    }
                    if name == METADATA {
                        document.text = Some(map.next_value::<Metadata>()?.wan);
                        continue;
                    }
                    let Info { dtype, shape, data_offsets: (start, end) } = map.next_value()?;
                    document.entries.push(Entry { name, dtype, shape, start, end });
                }
                Ok(document)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Header {
    /// The header of these bytes, which `data` bytes of numbers follow.
    ///
    /// # Errors
    /// What does not fit. The tensors have to cover all of the numbers, each once.
    pub(crate) fn parse(bytes: &[u8], data: u64) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("its header: {error}"))?;
        let text = document.text.ok_or("its header has no text of a run")?;
        let header = Self { text, entries: document.entries };
        let mut end = 0;
        for index in header.order() {
            let entry = &header.entries[index];
            if entry.start != end || entry.end < entry.start {
                return Err(format!("tensor {:?} lies where it cannot", entry.name));
            }
            check(&entry.name, &entry.dtype, &entry.shape, entry.end - entry.start)?;
            end = entry.end;
        }
        if end != data {
            return Err(format!("its tensors have {end} bytes, found {data}"));
        }
        Ok(header)
    }

    /// The entries in the order in which they lie in the file.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_key(|index| (self.entries[*index].start, self.entries[*index].end));
        order
    }
}
