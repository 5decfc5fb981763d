//! What a file says of one tensor.

use crate::encoding::Encoding;

/// A tensor as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its shape in row-major order, as torch prints it.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub encoding: Encoding,
}

impl TensorInfo {
    /// Number of its elements. No reader gives a tensor whose product overflows.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of its numbers, as a reader gives them.
    pub fn bytes(&self) -> u64 {
        self.encoding.bytes(self.elements()).unwrap_or(0)
    }
}
