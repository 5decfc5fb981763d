//! Some queries of one head.

use std::ops::Range;

use crate::attention::key_value::Layout;
use crate::attention::softmax::Running;
use crate::matrix::Matrix;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::dispatch::Work;
use crate::simd::unit::{PANEL, Tile, Unit};
use crate::words::{Word, pack};

/// The task of some queries of one head, for which each block of keys is read once.
pub(crate) struct Group<'a> {
    pub(crate) layout: Layout,
    /// The head's packed keys and values.
    pub(crate) words: &'a [u32],
    pub(crate) query: &'a Matrix<'a>,
    /// The rows of query and output.
    pub(crate) rows: Range<usize>,
    /// The first number of the head in a row.
    pub(crate) column: usize,
    /// The keys that these queries see.
    pub(crate) keys: Range<usize>,
    pub(crate) scale: f32,
    pub(crate) out: &'a Shared<'a>,
    pub(crate) pool: &'a Pool,
}

impl Work for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        let Layout { word, head_dim, .. } = self.layout;
        let (steps, count) = (word.steps(head_dim), self.rows.len());
        let width = head_dim.next_multiple_of(PANEL);
        let mut queries = self.pool.words(count * steps);
        let tiles = (0..count).step_by(U::ROWS);
        for (tile, out) in tiles.clone().zip(queries.chunks_mut((U::ROWS * steps).max(1))) {
            let own = self.rows.start + tile..(self.rows.start + tile + U::ROWS).min(self.rows.end);
            let rows = own.len();
            pack(word, (self.query, own), self.column..self.column + head_dim, out, rows);
        }
        let mut sums = self.pool.floats(count * width);
        sums.fill(0.);
        let mut running = vec![Running::NONE; count];
        let block = self.layout.block();
        let mut scores = self.pool.floats(U::ROWS * block);
        let mut weights = self.pool.words(U::ROWS * word.steps(block));
        let edges = Edges::new(&self);
        for number in self.keys.start / block..self.keys.end.div_ceil(block) {
            let block = Block::new(&self, number);
            if block.keys.is_empty() {
                continue;
            }
            for tile in tiles.clone() {
                let rows = U::ROWS.min(count - tile);
                let queries = &queries[tile * steps..][..rows * steps];
                block.score(unit, (queries, rows), &mut scores);
                let sums = &mut sums[tile * width..][..rows * width];
                let running = &mut running[tile..tile + rows];
                block.weigh::<U>(&mut scores, self.scale, running, sums);
                block.pack_weights(&mut scores, rows, &mut weights);
                block.add_values(unit, (&weights, rows), &edges, sums);
            }
        }
        for (number, (sums, running)) in sums.chunks_exact_mut(width).zip(&running).enumerate() {
            let normalizer = running.normalizer(self.keys.len());
            let sums = &mut sums[..head_dim];
            sums.iter_mut().for_each(|sum| *sum *= normalizer);
            #[expect(unsafe_code, reason = "a part of a matrix that other tasks write too")]
            // SAFETY: no other task has these queries of this head: spans do not overlap.
            let mut out = unsafe { self.out.part(self.rows.start + number, self.column, head_dim) };
            out.round_from(sums);
        }
    }
}

/// A block of keys, as far as it is seen.
struct Block<'a> {
    layout: Layout,
    words: &'a [u32],
    /// The first key of the block.
    first: usize,
    /// The keys that are seen, of all.
    keys: Range<usize>,
}

impl<'a> Block<'a> {
    #[inline(always)]
    fn new(group: &Group<'a>, number: usize) -> Self {
        let layout = group.layout;
        let (first, len) = (number * layout.block(), layout.block_words());
        let keys = group.keys.start.max(first)..group.keys.end.min(first + layout.block());
        Self { layout, words: &group.words[number * len..][..len], first, keys }
    }

    /// The keys that are seen, of the block.
    #[inline(always)]
    fn own(&self) -> Range<usize> {
        self.keys.start - self.first..self.keys.end - self.first
    }

    /// Scores `[rows, block]` of a tile of queries. Those of keys that are not seen are not set, or
    /// not used.
    #[inline(always)]
    fn score<U: Unit>(&self, unit: U, (a, rows): (&[u32], usize), scores: &mut [f32]) {
        let (own, len) = (self.own(), self.layout.key_panel());
        for panel in own.start / PANEL..own.end.div_ceil(PANEL) {
            unit.multiply(Tile {
                rows,
                a,
                b: &self.words[panel * len..][..len],
                sums: &mut scores[panel * PANEL..],
                stride: self.layout.block(),
                first: true,
            });
        }
    }

    /// Turns scores into weights, and multiplies what was summed before by what it is worth now.
    #[inline(always)]
    fn weigh<U: Unit>(
        &self,
        scores: &mut [f32],
        scale: f32,
        running: &mut [Running],
        sums: &mut [f32],
    ) {
        let (own, width) = (self.own(), sums.len() / running.len());
        let rows = scores.chunks_exact_mut(self.layout.block()).zip(running);
        for ((scores, running), sums) in rows.zip(sums.chunks_exact_mut(width.max(1))) {
            let scores = &mut scores[own.clone()];
            let factor = match U::FUSED {
                true => running.weigh::<true>(scores, scale),
                false => running.weigh::<false>(scores, scale),
            };
            if let Some(factor) = factor {
                sums.iter_mut().for_each(|sum| *sum *= factor);
            }
        }
    }

    /// Packs weights as words `[steps, rows]`, from the word of the first key that is seen on. A
    /// key that shares a word with one that is seen, and is not seen itself, weighs nothing.
    #[inline(always)]
    fn pack_weights(&self, scores: &mut [f32], rows: usize, out: &mut [u32]) {
        let (block, numbers) = (self.layout.block(), self.layout.word.numbers());
        let own = self.own();
        let whole = own.start / numbers * numbers..own.end.next_multiple_of(numbers);
        for scores in scores.chunks_exact_mut(block).take(rows) {
            scores[whole.start..own.start].fill(0.);
            scores[own.end..whole.end].fill(0.);
        }
        let matrix = Matrix::dense(&scores[..rows * block], [rows, block]);
        pack(self.layout.word, (&matrix, 0..rows), whole, out, rows);
    }

    /// Adds the weighted values.
    #[inline(always)]
    fn add_values<U: Unit>(
        &self,
        unit: U,
        (weights, rows): (&[u32], usize),
        edges: &Edges,
        sums: &mut [f32],
    ) {
        let (own, numbers) = (self.own(), self.layout.word.numbers());
        let steps = own.start / numbers..own.end.div_ceil(numbers);
        let inner = own.start.div_ceil(numbers)..own.end / numbers;
        let width = sums.len() / rows;
        let values = self.words[self.layout.key_words()..].chunks_exact(self.layout.value_panel());
        for (panel, values) in values.enumerate() {
            let sums = &mut sums[panel * PANEL..];
            let mut add = |steps_of: Range<usize>, b: &[u32]| {
                let a = &weights[(steps_of.start - steps.start) * rows..][..steps_of.len() * rows];
                unit.multiply(Tile { rows, a, b, sums, stride: width, first: false });
            };
            // Values that are not seen must not be multiplied even by zero: they may be infinite.
            if steps.start < inner.start {
                add(steps.start..inner.start, &edges.start[panel]);
            }
            if inner.start < inner.end {
                add(inner.clone(), &values[inner.start * PANEL..inner.end * PANEL]);
            }
            if inner.end < steps.end {
                add(inner.end..steps.end, &edges.end[panel]);
            }
        }
    }
}

/// Words of values of which one key is seen and one is not; of the latter, zeros.
struct Edges {
    start: Vec<[u32; PANEL]>,
    end: Vec<[u32; PANEL]>,
}

impl Edges {
    #[inline(always)]
    fn new(group: &Group) -> Self {
        let layout = group.layout;
        let of = |key: usize, mask: u32| -> Vec<[u32; PANEL]> {
            if layout.word != Word::Pair || key.is_multiple_of(2) {
                return Vec::new();
            }
            let block = &group.words[key / layout.block() * layout.block_words()..];
            let values = &block[layout.key_words()..layout.block_words()];
            let step = key % layout.block() / 2;
            let panels = values.chunks_exact(layout.value_panel());
            let word = panels.map(|panel| *panel[step * PANEL..].first_chunk().expect("a panel"));
            word.map(|word: [u32; PANEL]| word.map(|pair| pair & mask)).collect()
        };
        Self { start: of(group.keys.start, 0xffff_0000), end: of(group.keys.end, 0xffff) }
    }
}
