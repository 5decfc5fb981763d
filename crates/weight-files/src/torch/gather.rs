//! The numbers of a view of a storage, in row-major order.

use std::ops::Range;

use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::torch::entry::Entry;
use crate::torch::tensors::View;

/// Bytes `range` of the numbers of `view`, counted from its first number in row-major order.
///
/// # Errors
/// As [`Entry::read`].
pub(super) fn read(
    file: &FileBytes,
    entry: &Entry,
    view: &View,
    range: Range<u64>,
) -> Result<Vec<u8>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    if view.is_contiguous() {
        let start = view.offset * view.width;
        return entry.read(file, start + range.start..start + range.end);
    }
    // Whole numbers first, then the bytes that are wanted of them.
    let numbers = range.start / view.width..range.end.div_ceil(view.width);
    let count = numbers.end - numbers.start;
    let (mut lowest, mut highest) = (u64::MAX, 0);
    let mut walk = Walk::from(view, numbers.start);
    for _ in 0..count {
        lowest = lowest.min(walk.at);
        highest = highest.max(walk.at);
        walk.go_on();
    }
    let slab = entry.read(file, lowest * view.width..(highest + 1) * view.width)?;
    let mut bytes = Vec::new();
    let mut walk = Walk::from(view, numbers.start);
    for _ in 0..count {
        let number = (walk.at - lowest) * view.width;
        let taken = usize::try_from(number).ok().zip(usize::try_from(number + view.width).ok());
        let taken = taken.and_then(|(start, end)| slab.get(start..end));
        bytes.extend_from_slice(taken.unwrap_or_default());
        walk.go_on();
    }
    let before = range.start - numbers.start * view.width;
    let wanted = before..before + (range.end - range.start);
    bytes.truncate(usize::try_from(wanted.end).unwrap_or(usize::MAX));
    bytes.drain(..usize::try_from(wanted.start).unwrap_or(0).min(bytes.len()));
    Ok(bytes)
}

/// Where in its storage each number of a view lies, one after the other.
struct Walk<'a> {
    view: &'a View,
    /// Along each axis.
    position: Vec<u64>,
    at: u64,
}

impl<'a> Walk<'a> {
    /// Begins at number `first` of the view. Its sizes are not 0.
    fn from(view: &'a View, first: u64) -> Self {
        let mut position = vec![0; view.sizes.len()];
        let (mut left, mut at) = (first, view.offset);
        for axis in (0..position.len()).rev() {
            position[axis] = left % view.sizes[axis];
            left /= view.sizes[axis];
            at += position[axis] * view.strides[axis];
        }
        Self { view, position, at }
    }

    fn go_on(&mut self) {
        for axis in (0..self.position.len()).rev() {
            let (size, stride) = (self.view.sizes[axis], self.view.strides[axis]);
            self.position[axis] += 1;
            if self.position[axis] < size {
                self.at += stride;
                return;
            }
            self.position[axis] = 0;
            self.at -= (size - 1) * stride;
        }
    }
}
