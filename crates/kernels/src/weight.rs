//! Weights as products read them: in panels of 32 outputs, one word of each after the other.
//!
//! A panel of a weight `[n, k]` holds rows `32 p..32 p + 32` as words `[steps, 32]`: first the
//! first word of every row, then the second, and so on. A word is an f32, or a pair of bf16 that
//! follow each other in a row. Rows beyond the last, and what is beyond an odd `k`, are zeros.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use crate::lines::Lines;
use crate::matrix::{Elements, Matrix};
use crate::path::Kernels;
use crate::simd::unit::PANEL;
use crate::words::{Pack, Precision, Word, pack};

/// A weight that stays as it is and is widened while a product reads it: one that is quantised, or
/// has a scale, or a change that is added on the fly.
///
/// A product over it equals, to the bit, the product over the same numbers widened and packed
/// beforehand.
pub trait Panels: Sync {
    /// Outputs `n` and inputs `k`.
    fn shape(&self) -> [usize; 2];

    /// Writes the numbers `columns` of the rows `rows`, widened to f32: `out [rows, columns]`.
    ///
    /// `rows` are at most 32 and begin at a multiple of 32. `columns` are at most as many as
    /// [`at_once`](Self::at_once) says and begin at a multiple of 256, so a block of a quantised
    /// format is never cut. Called from several threads at once, once for each part of the weight in
    /// a product.
    fn widen(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]);

    /// Numbers of a row that are asked for at once: 256, or a whole row for what can be computed for
    /// that alone.
    fn at_once(&self) -> usize {
        WIDENED
    }
}

/// Numbers of a row that [`Panels::widen`] is asked for at once.
const WIDENED: usize = 256;

impl Panels for Matrix<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.columns()]
    }

    fn widen(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(columns.len())) {
            self.part(row, columns.start, columns.len()).widen_to(out);
        }
    }
}

/// The weight of a product, `[n, k]` in the order of the files.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// Packed beforehand.
    Packed(Packed<'a>),
    /// Widened, and rounded once where the products are bf16, in every product.
    Widened {
        /// Where the numbers come from.
        panels: &'a dyn Panels,
        /// What they are multiplied in.
        precision: Precision,
    },
}

impl Weight<'_> {
    /// Outputs `n` and inputs `k`.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Packed(packed) => packed.shape,
            Self::Widened { panels, .. } => panels.shape(),
        }
    }

    /// What its numbers are multiplied in.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Packed(packed) => packed.precision,
            Self::Widened { precision, .. } => *precision,
        }
    }
}

impl fmt::Debug for Weight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if let Self::Packed(_) = self { "Packed" } else { "Widened" };
        write!(f, "{name}({:?}, {:?})", self.shape(), self.precision())
    }
}

/// A packed weight in somebody's memory. It is the same on every path.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    words: &'a [u32],
    shape: [usize; 2],
    precision: Precision,
}

/// What a word of a packed weight is.
fn stored(precision: Precision) -> Word {
    match precision {
        Precision::F32 => Word::F32,
        Precision::Bf16 => Word::Pair,
    }
}

/// Words that a packed weight `[n, k]` takes, of four bytes each: for `n` a multiple of 32 and an
/// even `k` as much as the weight itself.
///
/// # Panics
///
/// If they are more than a `usize` counts.
pub fn packed_words([n, k]: [usize; 2], precision: Precision) -> usize {
    let rows = n.div_ceil(PANEL).checked_mul(PANEL);
    let words = rows.and_then(|rows| rows.checked_mul(stored(precision).steps(k)));
    words.unwrap_or_else(|| panic!("a weight of {n}x{k}"))
}

impl<'a> Packed<'a> {
    /// What a [`Packer`] wrote for this shape and precision.
    ///
    /// # Panics
    ///
    /// If there are not [`packed_words`] of them.
    pub fn new(words: &'a [u32], shape: [usize; 2], precision: Precision) -> Self {
        assert_eq!(words.len(), packed_words(shape, precision), "words of {shape:?}");
        Self { words, shape, precision }
    }

    /// What a word is.
    pub(crate) fn word(&self) -> Word {
        stored(self.precision)
    }

    /// Words `[steps, 32]` of panel `panel`.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize) -> &'a [u32] {
        let len = self.word().steps(self.shape[1]) * PANEL;
        &self.words[panel * len..][..len]
    }
}

/// Packs a weight, some rows after the other, into memory that somebody gives.
#[derive(Debug)]
pub struct Packer<'a> {
    words: &'a mut [u32],
    shape: [usize; 2],
    precision: Precision,
}

impl<'a> Packer<'a> {
    /// Begins a weight `[n, k]`. Memory that begins at a multiple of 64 bytes is read fastest.
    ///
    /// # Panics
    ///
    /// If `words` are not [`packed_words`].
    pub fn new(words: &'a mut [u32], shape: [usize; 2], precision: Precision) -> Self {
        assert_eq!(words.len(), packed_words(shape, precision), "words of {shape:?}");
        let (n, len) = (shape[0], stored(precision).steps(shape[1]) * PANEL);
        if !n.is_multiple_of(PANEL) {
            words[n / PANEL * len..].fill(0);
        }
        Self { words, shape, precision }
    }

    /// Packs rows `[rows, k]`, the first of which is row `first` of the weight. Every row is packed
    /// once, in any order; whole panels, from a multiple of 32 on, are packed fastest, on all
    /// threads of the current pool.
    ///
    /// # Panics
    ///
    /// If the weight has not these rows, or has other columns.
    pub fn rows(&mut self, kernels: Kernels, first: usize, rows: Matrix) {
        let [n, k] = self.shape;
        assert_eq!(rows.columns(), k, "columns of a weight of {n}x{k}");
        assert!(rows.rows() <= n && first <= n - rows.rows(), "{rows:?} from {first} of {n}");
        let word = stored(self.precision);
        let len = word.steps(k) * PANEL;
        if rows.rows() == 0 || len == 0 {
            return;
        }
        let panels = first / PANEL..(first + rows.rows()).div_ceil(PANEL);
        let words = &mut self.words[panels.start * len..panels.end * len];
        words.par_chunks_exact_mut(len).zip(panels).for_each(|(out, panel)| {
            let own = (panel * PANEL).max(first)..((panel + 1) * PANEL).min(first + rows.rows());
            let column = own.start - panel * PANEL;
            let own = own.start - first..own.end - first;
            let (from, out) = (&rows, &mut out[column..]);
            kernels.run(Pack { word, from, own, out, width: PANEL });
        });
    }
}

/// A packed weight with memory of its own.
pub struct PackedWeight {
    lines: Lines,
    shape: [usize; 2],
    precision: Precision,
}

impl PackedWeight {
    /// Packs a weight `[n, k]` that lies in memory as a whole.
    pub fn new<'a>(kernels: Kernels, weight: Matrix<'a>, precision: Precision) -> Self {
        let shape = [weight.rows(), weight.columns()];
        let mut packed = Self::zeros(shape, precision);
        packed.packer().rows(kernels, 0, weight);
        packed
    }

    /// Memory for a weight `[n, k]` that is packed with [`packer`](Self::packer) as it is read.
    pub fn zeros(shape: [usize; 2], precision: Precision) -> Self {
        Self { lines: Lines::zeros(packed_words(shape, precision)), shape, precision }
    }

    /// Packs rows into it.
    pub fn packer(&mut self) -> Packer<'_> {
        let words = packed_words(self.shape, self.precision);
        Packer::new(&mut self.lines.words_mut()[..words], self.shape, self.precision)
    }

    /// As products read it.
    pub fn packed(&self) -> Packed<'_> {
        let words = packed_words(self.shape, self.precision);
        Packed::new(&self.lines.words()[..words], self.shape, self.precision)
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.lines.words().len() * 4
    }
}

impl<'a> From<&'a PackedWeight> for Weight<'a> {
    fn from(weight: &'a PackedWeight) -> Self {
        Self::Packed(weight.packed())
    }
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedWeight({:?}, {:?})", self.shape, self.precision)
    }
}

/// Widens panel `panel` of a weight to words `[steps, 32]`.
#[inline(always)]
pub(crate) fn widen_panel(panels: &dyn Panels, panel: usize, word: Word, out: &mut [u32]) {
    let [n, k] = panels.shape();
    let rows = panel * PANEL..((panel + 1) * PANEL).min(n);
    let at_once = panels.at_once().next_multiple_of(WIDENED);
    let (mut held, mut longer) = ([0.; PANEL * WIDENED], Vec::new());
    if at_once > WIDENED {
        longer.resize(PANEL * at_once, 0.);
    }
    if rows.len() < PANEL {
        out.fill(0);
    }
    for start in (0..k).step_by(at_once) {
        let columns = start..(start + at_once).min(k);
        let shape = [rows.len(), columns.len()];
        let numbers = if at_once > WIDENED { &mut longer[..] } else { &mut held[..] };
        let numbers = &mut numbers[..shape[0] * shape[1]];
        panels.widen(rows.clone(), columns, numbers);
        let block = Matrix::dense(Elements::F32(numbers), shape);
        let out = &mut out[start / word.numbers() * PANEL..];
        pack(word, (&block, 0..shape[0]), 0..shape[1], out, PANEL);
    }
}
