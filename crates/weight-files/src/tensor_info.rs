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
        elements(&self.shape).unwrap_or(0)
    }

    /// Bytes of its numbers, as a reader gives them.
    pub fn bytes(&self) -> u64 {
        self.encoding.bytes(self.elements()).unwrap_or(0)
    }
}

/// Number of elements of a shape. None where the axes that are not 0 make too many to count: so a
/// shape that has a number has one without any of its axes, too.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    let mut lengths = shape.iter().copied().filter(|length| *length != 0);
    let elements = lengths.try_fold(1usize, usize::checked_mul)?;
    Some(if shape.contains(&0) { 0 } else { elements })
}
