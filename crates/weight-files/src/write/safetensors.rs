//! Writes safetensors.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::planned::{Planned, unfit};
use crate::safetensors::dtype;
use crate::tensor_info::TensorInfo;

/// What the header is filled up to a multiple of, so that data are aligned.
const ALIGNMENT: usize = 8;

/// The key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Writes a safetensors file to `W`, tensor by tensor.
pub struct SafetensorsWriter<W> {
    out: W,
    planned: Planned,
}

/// A header in JSON, with the tensors in their order.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, Entry<'a>)>,
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: (u64, u64),
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.entries {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

impl<W: Write> SafetensorsWriter<W> {
    /// Writes the header of a file that will have these tensors in this order.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the format does not hold a tensor's
    /// encoding or a name is there twice; those of `out`.
    pub fn new(
        mut out: W,
        tensors: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let planned = Planned::new(tensors)?;
        let mut entries = Vec::new();
        let mut start = 0u64;
        for (TensorInfo { name, shape, encoding }, size) in tensors.iter().zip(planned.sizes()) {
            let Some(dtype) = dtype::name(*encoding).filter(|_| name != METADATA) else {
                return Err(unfit(format!(
                    "tensor `{name}` in {}: safetensors files hold no such tensor",
                    encoding.name()
                )));
            };
            let end = start.checked_add(size).ok_or_else(|| {
                unfit(format!("the tensors up to `{name}` have too many bytes to count"))
            })?;
            entries.push((name.as_str(), Entry { dtype, shape, data_offsets: (start, end) }));
            start = end;
        }
        let mut header = serde_json::to_vec(&Header { metadata, entries })?;
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
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
        self.out.write_all(bytes)
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
