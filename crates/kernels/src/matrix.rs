//! Rows of numbers in somebody else's memory.

use std::ops::Range;

use half::bf16;

/// Numbers in one of two formats.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// 32-bit.
    F32(&'a [f32]),
    /// The upper half of these.
    Bf16(&'a [bf16]),
}

impl<'a> From<&'a [f32]> for Elements<'a> {
    fn from(numbers: &'a [f32]) -> Self {
        Self::F32(numbers)
    }
}

impl<'a> From<&'a [bf16]> for Elements<'a> {
    fn from(numbers: &'a [bf16]) -> Self {
        Self::Bf16(numbers)
    }
}

impl<'a> Elements<'a> {
    /// How many.
    pub fn len(self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    pub(crate) fn part(self, start: usize, len: usize) -> Self {
        match self {
            Self::F32(numbers) => Self::F32(&numbers[start..start + len]),
            Self::Bf16(numbers) => Self::Bf16(&numbers[start..start + len]),
        }
    }

    /// Writes all of them to `out`, widened exactly.
    #[inline(always)]
    pub(crate) fn widen_to(self, out: &mut [f32]) {
        match self {
            Self::F32(numbers) => out.copy_from_slice(numbers),
            Self::Bf16(numbers) => widen(numbers, out),
        }
    }
}

/// Numbers to be written, in one of two formats.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// 32-bit.
    F32(&'a mut [f32]),
    /// The upper half of these, rounded to nearest, ties to even.
    Bf16(&'a mut [bf16]),
}

impl<'a> From<&'a mut [f32]> for ElementsMut<'a> {
    fn from(numbers: &'a mut [f32]) -> Self {
        Self::F32(numbers)
    }
}

impl<'a> From<&'a mut [bf16]> for ElementsMut<'a> {
    fn from(numbers: &'a mut [bf16]) -> Self {
        Self::Bf16(numbers)
    }
}

impl ElementsMut<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is there now.
    #[inline(always)]
    pub(crate) fn now(&self) -> Elements<'_> {
        match self {
            Self::F32(numbers) => Elements::F32(numbers),
            Self::Bf16(numbers) => Elements::Bf16(numbers),
        }
    }

    /// Writes `numbers`, rounded once to the format.
    #[inline(always)]
    pub(crate) fn round_from(&mut self, numbers: &[f32]) {
        match self {
            Self::F32(out) => out.copy_from_slice(numbers),
            Self::Bf16(out) => narrow(numbers, out),
        }
    }
}

/// The bits of the nearest bf16, ties to even; of a NaN, a NaN.
#[inline(always)]
pub(crate) fn round(number: f32) -> u32 {
    let bits = number.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    if number.is_nan() { bits >> 16 | 0x40 } else { nearest }
}

#[inline(always)]
fn widen(numbers: &[bf16], out: &mut [f32]) {
    assert_eq!(numbers.len(), out.len(), "numbers to widen");
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = f32::from_bits(u32::from(number.to_bits()) << 16);
    }
}

#[inline(always)]
fn narrow(numbers: &[f32], out: &mut [bf16]) {
    assert_eq!(numbers.len(), out.len(), "numbers to round");
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = bf16::from_bits(round(*number) as u16);
    }
}

/// A matrix that is read.
pub type Matrix<'a> = Grid<Elements<'a>>;

/// A matrix that is written. What lies between rows is left alone.
pub type MatrixMut<'a> = Grid<ElementsMut<'a>>;

/// Rows of `columns` numbers, `stride` numbers from one row to the next.
#[derive(Clone, Copy, Debug)]
pub struct Grid<E> {
    pub(crate) elements: E,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

/// What a matrix lies in.
pub trait Count {
    /// How many numbers there are.
    fn count(&self) -> usize;
}

impl Count for Elements<'_> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl Count for ElementsMut<'_> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl<E: Count> Grid<E> {
    /// The first row is the first of `elements`.
    ///
    /// # Panics
    ///
    /// If `elements` ends before the last row, or if rows overlap.
    #[track_caller]
    pub fn new(elements: impl Into<E>, shape: [usize; 2], stride: usize) -> Self {
        let (elements, [rows, columns]) = (elements.into(), shape);
        check(elements.count(), shape, stride);
        Self { elements, rows, columns, stride }
    }

    /// Rows one after the other.
    ///
    /// # Panics
    ///
    /// If there are not as many elements as the shape has.
    #[track_caller]
    pub fn dense(elements: impl Into<E>, shape: [usize; 2]) -> Self {
        let elements = elements.into();
        assert_eq!(elements.count(), shape[0] * shape[1], "elements of {shape:?}");
        Self::new(elements, shape, shape[1])
    }
}

impl<E> Grid<E> {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

impl<'a> Matrix<'a> {
    /// The numbers that it lies in, row by row where its rows follow each other.
    pub fn elements(&self) -> Elements<'a> {
        self.elements
    }

    /// Some rows of it.
    ///
    /// # Panics
    ///
    /// If it has not these rows.
    pub fn narrow(&self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        let start = rows.start * self.stride;
        let len = match rows.len() {
            0 => 0,
            count => (count - 1) * self.stride + self.columns,
        };
        let elements = self.elements.part(start.min(self.elements.len()), len);
        Self { elements, rows: rows.len(), ..*self }
    }

    /// `len` numbers of row `row`, from number `start` on.
    #[inline(always)]
    pub(crate) fn part(&self, row: usize, start: usize, len: usize) -> Elements<'a> {
        assert!(row < self.rows && start + len <= self.columns, "a part beyond the matrix");
        self.elements.part(row * self.stride + start, len)
    }
}

#[track_caller]
fn check(len: usize, [rows, columns]: [usize; 2], stride: usize) {
    assert!(stride >= columns || rows <= 1, "rows of {columns} overlap at stride {stride}");
    let whole = rows.checked_sub(1).map(|rows| rows.checked_mul(stride)?.checked_add(columns));
    let needed = whole.unwrap_or(Some(0));
    assert!(
        needed.is_some_and(|needed| needed <= len),
        "{rows} rows of {columns} at stride {stride} do not lie in {len} elements"
    );
}
