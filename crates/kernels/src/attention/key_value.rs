//! Keys and values, packed.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use crate::lines::Lines;
use crate::matrix::Matrix;
use crate::path::Kernels;
use crate::simd::dispatch::Work;
use crate::simd::unit::{PANEL, Unit};
use crate::words::{Precision, Word, pack};

/// What attention does, for all its heads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Videos, one after the other in the rows of queries, keys, values and output.
    pub batch: usize,
    /// Heads, side by side in a row.
    pub heads: usize,
    /// Factor of the scores: `1 / sqrt(head_dim)`, or 1 where the queries have it.
    pub scale: f32,
    /// What queries and keys, and weights and values, are multiplied in. Scores, softmax and sums
    /// are f32.
    pub precision: Precision,
}

/// How packed keys and values of one shape lie in memory.
///
/// They lie head by head (the heads of the first video first), each in blocks of
/// [`block`](Self::block) keys: the keys of a block as panels of 32 keys `[head_dim, 32]`, then its
/// values as panels of 32 numbers `[keys, 32]`. A word that is a pair has two numbers of one key in
/// the former, and one number of two keys in the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) word: Word,
    pub(crate) keys: usize,
    pub(crate) head_dim: usize,
    /// Heads of all videos.
    pub(crate) heads: usize,
}

impl Layout {
    /// Keys of a block: its keys and values stay in the second cache.
    pub(crate) fn block(&self) -> usize {
        256 * self.word.numbers()
    }

    pub(crate) fn blocks(&self) -> usize {
        self.keys.div_ceil(self.block())
    }

    /// Words of a panel of keys.
    pub(crate) fn key_panel(&self) -> usize {
        self.word.steps(self.head_dim) * PANEL
    }

    /// Words of a panel of values.
    pub(crate) fn value_panel(&self) -> usize {
        self.word.steps(self.block()) * PANEL
    }

    /// Words of the keys of a block.
    pub(crate) fn key_words(&self) -> usize {
        self.block() / PANEL * self.key_panel()
    }

    /// Words of a block.
    pub(crate) fn block_words(&self) -> usize {
        self.key_words() + self.head_dim.div_ceil(PANEL) * self.value_panel()
    }

    /// Words of a head.
    pub(crate) fn head_words(&self) -> usize {
        self.blocks() * self.block_words()
    }

    /// Packs the heads `heads` of keys and values `[batch keys, heads head_dim]`, which have
    /// `side_by_side` heads in a row.
    pub(crate) fn pack(
        &self,
        kernels: Kernels,
        [key, value]: [&Matrix; 2],
        (heads, side_by_side): (Range<usize>, usize),
        out: &mut [u32],
    ) {
        let blocks = self.blocks();
        if self.head_words() == 0 {
            return;
        }
        out.par_chunks_exact_mut(self.block_words()).enumerate().for_each(|(number, out)| {
            let (head, block) = (heads.start + number / blocks, number % blocks);
            let first = block * self.block();
            let keys = first..(first + self.block()).min(self.keys);
            let video = head / side_by_side * self.keys;
            let rows = video + keys.start..video + keys.end;
            let column = head % side_by_side * self.head_dim;
            kernels.run(PackBlock { layout: *self, key, value, rows, column, out });
        });
    }
}

struct PackBlock<'a> {
    layout: Layout,
    key: &'a Matrix<'a>,
    value: &'a Matrix<'a>,
    rows: Range<usize>,
    /// The first number of the head in a row.
    column: usize,
    out: &'a mut [u32],
}

impl Work for PackBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, _: U) {
        let Self { layout, key, value, rows, column, out } = self;
        let (keys, values) = out.split_at_mut(layout.key_words());
        for (panel, out) in keys.chunks_exact_mut(layout.key_panel()).enumerate() {
            let first = rows.start + panel * PANEL;
            let own = first.min(rows.end)..(first + PANEL).min(rows.end);
            pack(layout.word, (key, own), column..column + layout.head_dim, out, PANEL);
        }
        for (panel, out) in values.chunks_exact_mut(layout.value_panel()).enumerate() {
            let first = panel * PANEL;
            let own = first..(first + PANEL).min(layout.head_dim);
            for (step, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                let row = rows.start + step * layout.word.numbers();
                if row < rows.end {
                    let part = |row| value.part(row, column + own.start, own.len());
                    value_words(layout.word, part, row..rows.end, &mut out[..own.len()]);
                }
            }
        }
    }
}

/// One word of every number of a value: of row `rows.start`, and of the next in a pair.
#[inline(always)]
fn value_words<'a>(
    word: Word,
    part: impl Fn(usize) -> crate::matrix::Elements<'a>,
    rows: Range<usize>,
    out: &mut [u32],
) {
    if word != Word::Pair {
        return word.convert(part(rows.start), out);
    }
    Word::Rounded.convert(part(rows.start), out);
    out.iter_mut().for_each(|word| *word >>= 16);
    if rows.len() > 1 {
        let mut next = [0; PANEL];
        let next = &mut next[..out.len()];
        Word::Rounded.convert(part(rows.start + 1), next);
        out.iter_mut().zip(&*next).for_each(|(word, next)| *word |= next);
    }
}

/// Keys and values that are packed once and attended to many times: those of a prompt.
pub struct KeyValue {
    lines: Lines,
    layout: Layout,
    kernels: Kernels,
    batch: usize,
}

impl KeyValue {
    /// Packs keys and values `[batch keys, heads head_dim]`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit each other.
    pub fn pack(kernels: Kernels, attention: Attention, [key, value]: [Matrix; 2]) -> Self {
        let layout = attention.layout(kernels, [&key, &value]);
        let mut lines = Lines::zeros(layout.heads * layout.head_words());
        let words = &mut lines.words_mut()[..layout.heads * layout.head_words()];
        layout.pack(kernels, [&key, &value], (0..layout.heads, attention.heads), words);
        Self { lines, layout, kernels, batch: attention.batch }
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.lines.words().len() * 4
    }

    /// Keys of a video.
    pub fn keys(&self) -> usize {
        self.layout.keys
    }

    /// The layout and the words, for these kernels and this attention.
    #[track_caller]
    pub(crate) fn of(&self, kernels: Kernels, attention: Attention) -> (Layout, &[u32]) {
        let own = (self.kernels, self.batch, self.layout.heads);
        let asked = (kernels, attention.batch, attention.batch * attention.heads);
        assert_eq!(own, asked, "kernels, videos and heads of packed keys");
        let word = Word::of(kernels, attention.precision);
        assert_eq!(self.layout.word, word, "words of packed keys");
        (self.layout, self.lines.words())
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyValue({:?})", self.layout)
    }
}

impl Attention {
    #[track_caller]
    pub(crate) fn layout(&self, kernels: Kernels, [key, value]: [&Matrix; 2]) -> Layout {
        let shape = [key.rows(), key.columns()];
        assert_eq!(shape, [value.rows(), value.columns()], "keys and values");
        let Self { batch, heads, .. } = *self;
        assert!(batch > 0 && shape[0].is_multiple_of(batch), "{shape:?} keys of {batch} videos");
        assert!(heads > 0 && shape[1].is_multiple_of(heads), "{shape:?} keys of {heads} heads");
        let word = Word::of(kernels, self.precision);
        let (keys, head_dim) = (shape[0] / batch, shape[1] / heads);
        Layout { word, keys, head_dim, heads: batch * heads }
    }
}
