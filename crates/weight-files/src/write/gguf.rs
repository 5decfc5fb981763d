//! Writes GGUF, version 3.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::planned::{Planned, unfit};
use crate::gguf::ggml_type;
use crate::tensor_info::TensorInfo;

/// What data begin at multiples of. That of llama.cpp, and of files that do not say another.
const ALIGNMENT: usize = 32;

/// Keys that are numbers without sign, of 32 bits.
const NUMBERS: [&str; 3] =
    ["general.alignment", "general.file_type", "general.quantization_version"];

/// Before the name of a tensor, for its shape in torch's order: numbers with sign, of 32 bits.
const ORIG_SHAPE: &str = "comfy.gguf.orig_shape.";

const TYPE_U32: u32 = 4;
const TYPE_I32: u32 = 5;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// Writes a GGUF file to `W`, tensor by tensor.
pub struct GgufWriter<W> {
    out: W,
    planned: Planned,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header of a file that will have these tensors in this order.
    ///
    /// Metadata are strings, but for `general.file_type`, `general.quantization_version` and
    /// `general.alignment` (which is 32), and `comfy.gguf.orig_shape.NAME`, which is a shape as
    /// `5120,16,1,2,2`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the format does not hold a tensor's
    /// encoding, its rows are no whole blocks, a name is there twice, or metadata are no such
    /// numbers; those of `out`.
    pub fn new(
        mut out: W,
        tensors: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let planned = Planned::new(tensors)?;
        let mut header = b"GGUF\x03\0\0\0".to_vec();
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, text) in metadata {
            string(&mut header, key);
            value(&mut header, key, text)?;
        }
        let mut offset = 0u64;
        for (tensor, size) in tensors.iter().zip(planned.sizes()) {
            entry(&mut header, tensor, offset)?;
            let padded = size.checked_next_multiple_of(ALIGNMENT as u64);
            offset = padded.and_then(|size| offset.checked_add(size)).ok_or_else(|| {
                unfit(format!("the tensors up to `{}` have too many bytes to count", tensor.name))
            })?;
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&header)?;
        Ok(Self { out, planned })
    }

    /// Writes the bytes of the next tensor.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if they are not as many as its shape needs, or
    /// all tensors are written; those of `out`.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.planned.next(bytes.len())?;
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.out.write_all(&[0; ALIGNMENT][..padding])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if tensors are missing; those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.planned.finish()?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn string(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

/// A value after its key: its type and its bytes.
fn value(header: &mut Vec<u8>, key: &str, text: &str) -> io::Result<()> {
    let no = |expected: &str| unfit(format!("metadata `{key}` is {text:?}, expected {expected}"));
    if NUMBERS.contains(&key) {
        let number: u32 = text.parse().map_err(|_| no("a number of 32 bits"))?;
        if key == "general.alignment" && number != 32 {
            return Err(no("32, which is the one that is written"));
        }
        header.extend(TYPE_U32.to_le_bytes());
        header.extend(number.to_le_bytes());
    } else if key.starts_with(ORIG_SHAPE) {
        let axes: Result<Vec<i32>, _> = text.split(',').map(|axis| axis.trim().parse()).collect();
        let axes = axes.map_err(|_| no("a shape, such as 5120,16,1,2,2"))?;
        header.extend(TYPE_ARRAY.to_le_bytes());
        header.extend(TYPE_I32.to_le_bytes());
        header.extend((axes.len() as u64).to_le_bytes());
        header.extend(axes.iter().flat_map(|axis| axis.to_le_bytes()));
    } else {
        header.extend(TYPE_STRING.to_le_bytes());
        string(header, text);
    }
    Ok(())
}

/// An entry of the list of tensors, whose dimensions are in ggml's order: the fastest first.
fn entry(header: &mut Vec<u8>, tensor: &TensorInfo, offset: u64) -> io::Result<()> {
    let TensorInfo { name, shape, encoding } = tensor;
    let row = shape.last().copied().unwrap_or(1);
    let id = ggml_type::id(*encoding).filter(|_| row.is_multiple_of(encoding.block()));
    let (Some(id), Ok(count)) = (id, u32::try_from(shape.len())) else {
        return Err(unfit(format!(
            "tensor `{name}` of shape {shape:?} in {}: GGUF files hold no such tensor",
            encoding.name()
        )));
    };
    string(header, name);
    header.extend(count.to_le_bytes());
    for axis in shape.iter().rev() {
        header.extend((*axis as u64).to_le_bytes());
    }
    header.extend(id.to_le_bytes());
    header.extend(offset.to_le_bytes());
    Ok(())
}
