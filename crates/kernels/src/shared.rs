//! A matrix that threads write at once, each its own part.
#![allow(unsafe_code, reason = "parts of rows cannot be split off a slice")]

use std::marker::PhantomData;
use std::slice::from_raw_parts_mut;

use half::bf16;

use crate::matrix::{ElementsMut, MatrixMut};

/// A [`MatrixMut`] in parts.
pub(crate) struct Shared<'a> {
    pointer: Pointer,
    len: usize,
    rows: usize,
    columns: usize,
    stride: usize,
    held: PhantomData<&'a mut ()>,
}

#[derive(Clone, Copy)]
enum Pointer {
    F32(*mut f32),
    Bf16(*mut bf16),
}

// SAFETY: it gives no number to two threads at once, by the promise of who calls `part`; the
// memory is borrowed for `'a`.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(matrix: MatrixMut<'a>) -> Self {
        let MatrixMut { elements, rows, columns, stride } = matrix;
        let len = elements.len();
        let pointer = match elements {
            ElementsMut::F32(numbers) => Pointer::F32(numbers.as_mut_ptr()),
            ElementsMut::Bf16(numbers) => Pointer::Bf16(numbers.as_mut_ptr()),
        };
        Self { pointer, len, rows, columns, stride, held: PhantomData }
    }

    /// `len` numbers of row `row`, from number `start` on.
    ///
    /// # Safety
    ///
    /// No other part that holds one of these numbers is there at the same time.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, row: usize, start: usize, len: usize) -> ElementsMut<'_> {
        let first = row * self.stride + start;
        assert!(
            row < self.rows && start + len <= self.columns && first + len <= self.len,
            "{len} numbers from {start} of row {row} of {}x{}",
            self.rows,
            self.columns
        );
        // SAFETY: the numbers lie in the slice that was given, by the assertion above; nobody else
        // has them, by the caller's promise and the borrow for `'a`.
        unsafe {
            match self.pointer {
                Pointer::F32(numbers) => {
                    ElementsMut::F32(from_raw_parts_mut(numbers.add(first), len))
                }
                Pointer::Bf16(numbers) => {
                    ElementsMut::Bf16(from_raw_parts_mut(numbers.add(first), len))
                }
            }
        }
    }
}
