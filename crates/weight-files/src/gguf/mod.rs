//! GGUF, versions 2 and 3: metadata, a list of tensors, aligned bytes.
//!
//! The format is that of ggml (`docs/gguf.md` in ggml-org/ggml). Dimensions may be five, which
//! llama.cpp and candle refuse: files of Wan have a kernel over time and picture. Which model a
//! file holds is not decided here.

pub(crate) mod ggml_type;
mod header_bytes;
mod layout;
mod metadata;
mod tensor_list;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::container::{Container, Reader};
use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::tensor_info::{TensorInfo, elements};
use header_bytes::HeaderBytes;
use metadata::Metadata;
use tensor_list::Listed;

const MAGIC: &[u8; 4] = b"GGUF";

/// Where data begin if the file does not say otherwise: at multiples of it.
const ALIGNMENT: u64 = 32;

pub(crate) const READER: Reader = Reader { name: "GGUF", recognises, open };

struct Gguf {
    tensors: Vec<TensorInfo>,
    /// Where each begins in the file.
    starts: Vec<u64>,
    metadata: BTreeMap<String, String>,
}

fn recognises(first: &[u8], _length: u64) -> bool {
    first.starts_with(MAGIC)
}

fn open(file: &FileBytes) -> Result<Box<dyn Container>> {
    let mut header = HeaderBytes::new(file);
    header.skip(MAGIC.len() as u64)?;
    check_version(&mut header)?;
    let (tensors, keys) = (header.u64()?, header.u64()?);
    let metadata = Metadata::read(&mut header, keys)?;
    check_whole(file, &metadata)?;
    let mut list = tensor_list::read(&mut header, tensors)?;
    let header_end = header.place();
    check_names(file, &list)?;
    restore_shapes(file, &mut list, &metadata)?;
    let alignment = alignment(file, &metadata)?;
    let data = header_end.next_multiple_of(alignment);
    let starts = layout::starts(file, &list, data, alignment)?;
    let tensors = list.into_iter().map(|(tensor, _)| tensor).collect();
    Ok(Box::new(Gguf { tensors, starts, metadata: metadata.texts }))
}

fn check_version(header: &mut HeaderBytes) -> Result<()> {
    let version = header.u32()?;
    match version {
        2 | 3 => Ok(()),
        1 => Err(header.malformed(
            "GGUF of version 1 (of 2023) is not read: take a newer file of this model, versions 2 \
             and 3 are read",
        )),
        _ if matches!(version.swap_bytes(), 1..=3) => Err(header.malformed(
            "a big-endian GGUF (for IBM Z and the like) is not read: take the little-endian file \
             of this model",
        )),
        _ => Err(header.malformed(format!(
            "GGUF of version {version}: damaged or newer than this program, which reads 2 and 3"
        ))),
    }
}

/// Fails if it is a part of a file that was split.
fn check_whole(file: &FileBytes, metadata: &Metadata) -> Result<()> {
    match metadata.number("split.count") {
        Some(count @ 2..) => {
            let number = metadata.number("split.no").unwrap_or(0).saturating_add(1);
            Err(file.malformed(format!(
                "part {number} of a GGUF that was split into {count} files: join them first \
                 (llama-gguf-split --merge FIRST-PART JOINED.gguf)"
            )))
        }
        _ => Ok(()),
    }
}

fn check_names(file: &FileBytes, list: &[Listed]) -> Result<()> {
    let mut names = BTreeSet::new();
    match list.iter().find(|(tensor, _)| !names.insert(&tensor.name)) {
        Some((tensor, _)) => {
            Err(file.malformed(format!("damaged: tensor `{}` is there twice", tensor.name)))
        }
        None => Ok(()),
    }
}

/// Gives tensors back the shapes that they had before a writer that knows fewer dimensions.
fn restore_shapes(file: &FileBytes, list: &mut [Listed], metadata: &Metadata) -> Result<()> {
    for (tensor, _) in list {
        let Some(shape) = metadata.shapes.get(&tensor.name) else { continue };
        if elements(shape) != Some(tensor.elements()) {
            return Err(file.malformed(format!(
                "tensor `{}` is stored as {:?}, which cannot have been {shape:?} as \
                 comfy.gguf.orig_shape says",
                tensor.name, tensor.shape
            )));
        }
        tensor.shape.clone_from(shape);
    }
    Ok(())
}

fn alignment(file: &FileBytes, metadata: &Metadata) -> Result<u64> {
    let Some(text) = metadata.texts.get("general.alignment") else { return Ok(ALIGNMENT) };
    let alignment = metadata.number("general.alignment");
    alignment.filter(|bytes| bytes.is_power_of_two() && (8..=1 << 31).contains(bytes)).ok_or_else(
        || {
            file.malformed(format!(
                "damaged: general.alignment is {text}, expected a power of two from 8 on"
            ))
        },
    )
}

impl Container for Gguf {
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
