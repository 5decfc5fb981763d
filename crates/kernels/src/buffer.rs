//! Matrices that are lent from a pool.

use std::ops::Range;

use crate::matrix::{Elements, ElementsMut, Matrix, MatrixMut};
use crate::pool::{Pool, Words};
use crate::words::Precision;

/// A matrix whose memory goes back to the pool. Its rows follow each other.
pub struct Buffer<'p> {
    words: Words<'p>,
    format: Precision,
    shape: [usize; 2],
}

impl Pool {
    /// A matrix `[rows, columns]` of numbers in the format that products of this precision read. What
    /// it holds is not defined.
    pub fn matrix(&self, format: Precision, [rows, columns]: [usize; 2]) -> Buffer<'_> {
        let numbers = rows * columns;
        let words = match format {
            Precision::F32 => numbers,
            Precision::Bf16 => numbers.div_ceil(2),
        };
        Buffer { words: self.words(words), format, shape: [rows, columns] }
    }
}

impl Buffer<'_> {
    /// All of it.
    pub fn all(&self) -> Matrix<'_> {
        self.rows(0..self.shape[0])
    }

    /// All of it, to be written.
    pub fn all_mut(&mut self) -> MatrixMut<'_> {
        self.rows_mut(0..self.shape[0])
    }

    /// Some rows.
    ///
    /// # Panics
    ///
    /// If it has not these rows.
    pub fn rows(&self, rows: Range<usize>) -> Matrix<'_> {
        let (place, shape) = self.place(rows);
        Matrix::dense(self.elements().part(place.start, place.len()), shape)
    }

    /// Some rows, to be written.
    ///
    /// # Panics
    ///
    /// If it has not these rows.
    pub fn rows_mut(&mut self, rows: Range<usize>) -> MatrixMut<'_> {
        let (place, shape) = self.place(rows);
        let elements = match self.format {
            Precision::F32 => {
                ElementsMut::F32(&mut bytemuck::cast_slice_mut(&mut self.words)[place])
            }
            Precision::Bf16 => {
                ElementsMut::Bf16(&mut bytemuck::cast_slice_mut(&mut self.words)[place])
            }
        };
        MatrixMut::dense(elements, shape)
    }

    /// All numbers, row by row.
    fn elements(&self) -> Elements<'_> {
        let numbers = self.shape[0] * self.shape[1];
        match self.format {
            Precision::F32 => Elements::F32(&bytemuck::cast_slice(&self.words)[..numbers]),
            Precision::Bf16 => Elements::Bf16(&bytemuck::cast_slice(&self.words)[..numbers]),
        }
    }

    fn place(&self, rows: Range<usize>) -> (Range<usize>, [usize; 2]) {
        let [count, columns] = self.shape;
        assert!(rows.start <= rows.end && rows.end <= count, "{rows:?} of {count} rows");
        (rows.start * columns..rows.end * columns, [rows.len(), columns])
    }
}
