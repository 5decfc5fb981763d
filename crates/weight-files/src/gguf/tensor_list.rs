//! The list of tensors of a GGUF file, and where the bytes of each are.

use super::ggml_type;
use super::header_bytes::HeaderBytes;
use crate::encoding::Encoding;
use crate::error::Result;
use crate::tensor_info::{TensorInfo, elements};

/// Most tensors that are read. A 14B model with image layers has 1,303.
const TENSORS_MAX: u64 = 1 << 16;

/// Longest name of a tensor that is read, in bytes. ggml's own limit is 63, that of its forks 127.
const NAME_MAX: u64 = 1024;

/// Most dimensions of a tensor. ggml has four; Wan's `patch_embedding.weight` has five.
const DIMENSIONS_MAX: u32 = 5;

/// A tensor, and where its bytes begin in the data section.
pub(super) type Listed = (TensorInfo, u64);

/// Reads `count` entries of the list.
pub(super) fn read(header: &mut HeaderBytes, count: u64) -> Result<Vec<Listed>> {
    if count > TENSORS_MAX {
        return Err(header.malformed(format!(
            "damaged: it should have {count} tensors, at most {TENSORS_MAX} are read"
        )));
    }
    let mut list = Vec::new();
    for number in 0..count {
        list.push(entry(header, number)?);
    }
    Ok(list)
}

fn entry(header: &mut HeaderBytes, number: u64) -> Result<Listed> {
    let name = name(header, number)?;
    let count = header.u32()?;
    if count > DIMENSIONS_MAX {
        return Err(header.malformed(format!(
            "tensor `{name}` has {count} dimensions, at most {DIMENSIONS_MAX} are read"
        )));
    }
    let mut dimensions = Vec::new();
    for _ in 0..count {
        let length = header.u64()?;
        dimensions.push(usize::try_from(length).map_err(|_| {
            header.malformed(format!("tensor `{name}` has a dimension of {length} numbers"))
        })?);
    }
    let type_id = header.u32()?;
    let Some(encoding) = ggml_type::encoding(type_id) else {
        return Err(header.malformed(format!(
            "tensor `{name}` is stored as {} (ggml type {type_id}), which is not read; take a \
             file in one of {}",
            ggml_type::name(type_id),
            ggml_type::names_read()
        )));
    };
    if let Some(problem) = problem(&dimensions, encoding) {
        return Err(header.malformed(format!(
            "tensor `{name}` has the dimensions {dimensions:?} in {}: {problem}",
            encoding.name()
        )));
    }
    let offset = header.u64()?;
    // ggml names the fastest dimension first.
    let shape = dimensions.into_iter().rev().collect();
    Ok((TensorInfo { name, shape, encoding }, offset))
}

fn name(header: &mut HeaderBytes, number: u64) -> Result<String> {
    let length = header.u64()?;
    if length > NAME_MAX {
        return Err(header.malformed(format!(
            "damaged: the name of tensor {number} has {length} bytes, at most {NAME_MAX} are read"
        )));
    }
    let bytes = header.bytes(length)?;
    String::from_utf8(bytes).map_err(|e| {
        let name = String::from_utf8_lossy(e.as_bytes()).into_owned();
        header.malformed(format!("damaged: the name of tensor {number}, {name:?}, is not UTF-8"))
    })
}

/// What is wrong with dimensions, in ggml's order.
fn problem(dimensions: &[usize], encoding: Encoding) -> Option<String> {
    let row = dimensions.first().copied().unwrap_or(1);
    let block = encoding.block();
    if !row.is_multiple_of(block) {
        return Some(format!("rows of {row} numbers are no whole blocks of {block}"));
    }
    let bytes = elements(dimensions).and_then(|elements| encoding.bytes(elements));
    bytes.is_none().then(|| "their product is larger than any file".to_owned())
}
