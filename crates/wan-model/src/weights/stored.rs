//! The place of one tensor in the files.

use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use crate::original_names::Part;

/// The place of a tensor.
#[derive(Clone)]
pub(super) struct Stored {
    /// Number of its file.
    pub(super) file: usize,
    /// Name in the file.
    pub(super) original: String,
    /// Entry of the whole tensor in the file's header.
    pub(super) info: TensorInfo,
    /// The part of it that this tensor is.
    pub(super) part: Part,
    pub(super) shape: Vec<usize>,
}

impl Stored {
    /// Offsets of its bytes after the header.
    pub(super) fn place(&self) -> Range<usize> {
        let (start, end) = self.info.data_offsets;
        match self.part {
            Part::Whole | Part::Squeezed => start..end,
            Part::Third(third) => {
                let length = (end - start) / 3;
                start + third * length..start + (third + 1) * length
            }
        }
    }

    /// Whether it can have a factor: an 8-bit matrix called `weight`.
    pub(super) fn is_8_bit_matrix(&self) -> bool {
        let is_8_bit = matches!(self.info.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2);
        is_8_bit && self.shape.len() > 1 && self.original.ends_with("weight")
    }
}
