//! GGUF files put together byte by byte.

/// A file of version 3: its keys, its list of tensors, and data of ones.
pub(super) struct Built {
    /// The keys, the list, and how many there are of either.
    pub(super) keys_bytes: Vec<u8>,
    pub(super) entries_bytes: Vec<u8>,
    /// Bytes of data.
    pub(super) data: usize,
    /// Where data begin: at a multiple of it.
    pub(super) alignment: usize,
    /// The count of tensors, if it is not that of the list.
    pub(super) tensors: Option<u64>,
    /// The count of keys, if it is not that of the keys.
    pub(super) keys: Option<u64>,
    pub(super) counts: [u64; 2],
}

impl Built {
    pub(super) fn new(keys: &[Vec<u8>], entries: &[Vec<u8>]) -> Self {
        Self {
            keys_bytes: keys.concat(),
            entries_bytes: entries.concat(),
            data: 0,
            alignment: 32,
            tensors: None,
            keys: None,
            counts: [entries.len() as u64, keys.len() as u64],
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensors.unwrap_or(self.counts[0]).to_le_bytes());
        bytes.extend(self.keys.unwrap_or(self.counts[1]).to_le_bytes());
        bytes.extend([&self.keys_bytes[..], &self.entries_bytes].concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.resize(bytes.len() + self.data, 1);
        bytes
    }
}

pub(super) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn key(name: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&string(name)[..], &value_type.to_le_bytes(), value].concat()
}

pub(super) fn array(element: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

pub(super) fn entry(name: &str, dimensions: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
    bytes.extend(dimensions.iter().flat_map(|length| length.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}
