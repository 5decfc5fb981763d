//! The place of one tensor in the files.

use std::ops::Range;

use wan_weight_files::{Encoding, TensorInfo};

use crate::original_names::Part;

/// The place of a tensor.
#[derive(Clone)]
pub(super) struct Stored {
    /// Number of its file.
    pub(super) file: usize,
    /// Number of the whole tensor in its file.
    pub(super) number: usize,
    /// The whole tensor, as its file describes it.
    pub(super) info: TensorInfo,
    /// The part of it that this tensor is.
    pub(super) part: Part,
    pub(super) shape: Vec<usize>,
}

impl Stored {
    /// Its bytes, counted from the first of the whole tensor.
    pub(super) fn place(&self) -> Range<u64> {
        let whole = self.info.bytes();
        match self.part {
            Part::Whole | Part::Squeezed => 0..whole,
            Part::Third(third) => {
                let (third, length) = (third as u64, whole / 3);
                third * length..(third + 1) * length
            }
        }
    }

    /// Whether it can have a factor: an 8-bit matrix called `weight`.
    pub(super) fn is_8_bit_matrix(&self) -> bool {
        let encoding = self.info.encoding;
        let is_8_bit = encoding.is_8_bit_float() || encoding == Encoding::I8;
        is_8_bit && self.shape.len() > 1 && self.info.name.ends_with("weight")
    }
}
