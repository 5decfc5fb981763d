//! What products read: rows turned into words, and words put in the order of tiles and panels.

use half::slice::HalfFloatSliceExt;

use crate::matrix::{Elements, Matrix, round};
use crate::path::Kernels;
use crate::simd::dispatch::Work;
use crate::simd::unit::{PANEL, Unit};
use crate::transpose::columns;

/// What two numbers are multiplied in. Sums are f32 in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are.
    F32,
    /// Both are rounded to bf16 first, to nearest, ties to even; their product is not.
    Bf16,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// An f32.
    F32,
    /// An f32 that was rounded to bf16.
    Rounded,
    /// Two bf16, the first in the lower half; after an odd number of them, a zero.
    Pair,
}

impl Word {
    /// What these kernels multiply.
    pub(crate) fn of(kernels: Kernels, precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 if kernels.has_bf16_dot() => Self::Pair,
            Precision::Bf16 => Self::Rounded,
        }
    }

    /// Words of a row of `numbers` numbers.
    pub(crate) fn steps(self, numbers: usize) -> usize {
        numbers.div_ceil(self.numbers())
    }

    /// Numbers of a word.
    pub(crate) fn numbers(self) -> usize {
        match self {
            Self::F32 | Self::Rounded => 1,
            Self::Pair => 2,
        }
    }

    /// Runs work on words of this kind.
    pub(crate) fn run<W: Work>(self, kernels: Kernels, work: W) -> W::Output {
        match self {
            Self::F32 | Self::Rounded => kernels.run(work),
            Self::Pair => kernels.run_bf16(work),
        }
    }

    /// Rows of the largest tile of these kernels.
    pub(crate) fn tile_rows(self, kernels: Kernels) -> usize {
        self.run(kernels, TileRows)
    }

    /// Turns numbers into as many words as [`steps`](Self::steps) says.
    #[inline(always)]
    pub(crate) fn convert(self, numbers: Elements, out: &mut [u32]) {
        assert_eq!(out.len(), self.steps(numbers.len()), "words");
        match (self, numbers) {
            (Self::F32, Elements::F32(numbers)) => {
                out.copy_from_slice(bytemuck::cast_slice(numbers));
            }
            (Self::Rounded, Elements::F32(numbers)) => {
                out.iter_mut().zip(numbers).for_each(|(out, number)| *out = round(*number) << 16);
            }
            (Self::F32 | Self::Rounded, Elements::Bf16(numbers)) => {
                let bits = numbers.reinterpret_cast();
                out.iter_mut().zip(bits).for_each(|(out, bits)| *out = u32::from(*bits) << 16);
            }
            (Self::Pair, Elements::F32(numbers)) => {
                let (pairs, last) = numbers.as_chunks::<2>();
                for (out, [first, second]) in out.iter_mut().zip(pairs) {
                    *out = round(*first) | round(*second) << 16;
                }
                if let ([last], [.., out]) = (last, out) {
                    *out = round(*last);
                }
            }
            (Self::Pair, Elements::Bf16(numbers)) => {
                let (pairs, last) = numbers.reinterpret_cast().as_chunks::<2>();
                for (out, [first, second]) in out.iter_mut().zip(pairs) {
                    *out = u32::from(*first) | u32::from(*second) << 16;
                }
                if let ([last], [.., out]) = (last, out) {
                    *out = u32::from(*last);
                }
            }
        }
    }
}

struct TileRows;

impl Work for TileRows {
    type Output = usize;

    #[inline(always)]
    fn run<U: Unit>(self, _: U) -> usize {
        U::ROWS
    }
}

/// Words that are converted before they are put in order: they stay in the nearest cache.
const BLOCK: usize = 64;

/// [`pack`] of whole rows, on the path that runs it.
pub(crate) struct Pack<'a> {
    pub(crate) word: Word,
    pub(crate) from: &'a Matrix<'a>,
    pub(crate) own: std::ops::Range<usize>,
    pub(crate) out: &'a mut [u32],
    pub(crate) width: usize,
}

impl Work for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, _: U) {
        let Self { word, from, own, out, width } = self;
        pack(word, (from, own), 0..from.columns(), out, width);
    }
}

/// Puts up to 32 rows into columns of `width` words: word `s` of row `r` becomes word `s` of column
/// `r`. `out` begins with the first row's column.
///
/// `rows` are those of the numbers `numbers` of their matrix, which begin with a whole word.
#[inline(always)]
pub(crate) fn pack(
    word: Word,
    (matrix, rows): (&Matrix, std::ops::Range<usize>),
    numbers: std::ops::Range<usize>,
    out: &mut [u32],
    width: usize,
) {
    let mut lines = [0; PANEL * BLOCK];
    let lines = &mut lines[..rows.len() * BLOCK];
    let at_once = BLOCK * word.numbers();
    for (block, start) in numbers.clone().step_by(at_once).enumerate() {
        let len = at_once.min(numbers.end - start);
        let steps = word.steps(len);
        for (row, line) in rows.clone().zip(lines.chunks_exact_mut(BLOCK)) {
            word.convert(matrix.part(row, start, len), &mut line[..steps]);
        }
        columns(lines, BLOCK, steps, &mut out[block * BLOCK * width..], width);
    }
}

/// Widens words of bf16 pairs `[steps, 32]` to one row of 32 for each number, `[numbers, 32]`.
#[inline(always)]
pub(crate) fn widen_pairs(pairs: &[u32], out: &mut [u32]) {
    let mut rows = out.as_chunks_mut::<PANEL>().0.iter_mut();
    for pairs in pairs.as_chunks::<PANEL>().0 {
        for (out, pair) in rows.next().into_iter().flatten().zip(pairs) {
            *out = pair << 16;
        }
        for (out, pair) in rows.next().into_iter().flatten().zip(pairs) {
            *out = pair & 0xffff_0000;
        }
    }
}
