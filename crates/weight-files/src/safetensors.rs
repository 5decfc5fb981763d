//! safetensors: the length of a header, the header in JSON, the bytes of the tensors.

use std::collections::BTreeMap;
use std::ops::Range;

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata;

use crate::container::{Container, Reader};
use crate::encoding::Encoding;
use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::tensor_info::TensorInfo;

/// Bytes of the header's length, which is before the header.
const PREFIX: u64 = 8;

/// Longest header that is read, in bytes. The format allows 100 MB; that of a 14B model has 0.2, and
/// what is made of a header takes several times its bytes.
const HEADER_MAX: u64 = 16 << 20;

pub(crate) const READER: Reader = Reader { name: "safetensors", recognises, open };

struct Safetensors {
    tensors: Vec<TensorInfo>,
    /// Where each begins in the file.
    starts: Vec<u64>,
    metadata: BTreeMap<String, String>,
    header_end: u64,
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
            "the header should have {header} bytes, at most {HEADER_MAX} are read"
        )));
    }
    let header_end = PREFIX + header;
    let header: Metadata = serde_json::from_slice(&file.exactly(PREFIX..header_end)?)
        .map_err(|e| file.malformed(format!("the header cannot be read: {e}")))?;
    let expected = header_end + header.data_len() as u64;
    if file.length() < expected {
        return Err(file.malformed(format!(
            "cut short: the header describes {expected} bytes, the file has {}",
            file.length()
        )));
    }
    let (mut tensors, mut starts) = (Vec::new(), Vec::new());
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        starts.push(header_end + info.data_offsets.0 as u64);
        tensors.push(TensorInfo {
            name,
            shape: info.shape.clone(),
            encoding: encoding(info.dtype),
        });
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Box::new(Safetensors { tensors, starts, metadata, header_end }))
}

fn encoding(dtype: Dtype) -> Encoding {
    match dtype {
        Dtype::BOOL => Encoding::Bool,
        Dtype::U8 => Encoding::U8,
        Dtype::I8 => Encoding::I8,
        Dtype::F8_E4M3 => Encoding::F8E4M3,
        Dtype::F8_E5M2 => Encoding::F8E5M2,
        Dtype::F16 => Encoding::F16,
        Dtype::BF16 => Encoding::BF16,
        Dtype::F32 => Encoding::F32,
        Dtype::F64 => Encoding::F64,
        Dtype::I16 => Encoding::I16,
        Dtype::I32 => Encoding::I32,
        Dtype::I64 => Encoding::I64,
        other => Encoding::Other(other.bitsize()),
    }
}

impl Container for Safetensors {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn described_by(&self) -> Range<u64> {
        0..self.header_end
    }

    fn read(&self, file: &FileBytes, number: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let start = self.starts[number];
        file.exactly(start + range.start..start + range.end)
    }
}
