//! What a reader of a container format gives.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::tensor_info::TensorInfo;

/// An open file in one of the formats.
pub(crate) trait Container: Send + Sync {
    /// The tensors, in the order of the file.
    fn tensors(&self) -> &[TensorInfo];

    /// What else the file says of itself, as text: a format's own fields, or the words that whoever
    /// wrote it put in. Lists are left out.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// Bytes `range` of the numbers of tensor `number`, in row-major order.
    ///
    /// # Errors
    /// If the file cannot be read, or contradicts what describes it.
    fn read(&self, file: &FileBytes, number: usize, range: Range<u64>) -> Result<Vec<u8>>;
}

/// A reader of a format.
pub(crate) struct Reader {
    /// The format's name.
    pub(crate) name: &'static str,
    /// Whether a file of so many bytes that begins with these (at least 16, or all) is of the format.
    pub(crate) recognises: fn(&[u8], u64) -> bool,
    /// Reads what describes the tensors.
    pub(crate) open: fn(&FileBytes) -> Result<Box<dyn Container>>,
}
