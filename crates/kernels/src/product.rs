//! The matrix product.

use std::ops::Range;

use rayon::prelude::*;

use crate::epilogue::Epilogue;
use crate::matrix::{Matrix, MatrixMut};
use crate::path::Kernels;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::simd::dispatch::Work;
use crate::simd::unit::{PANEL, Tile, Unit};
use crate::weight::{Weight, widen_panel};
use crate::words::{Pack, Word, widen_pairs};

/// Kernels and the pool that their buffers come from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'p> {
    /// The kernels.
    pub kernels: Kernels,
    /// The pool of the run.
    pub pool: &'p Pool,
}

/// Steps of a sum that are computed for a tile at a time: its rows stay in the first cache, and the
/// panels of a strip in the second.
const STEPS: usize = 256;
/// As [`STEPS`], for words of two numbers.
const PAIR_STEPS: usize = 384;
/// Panels that a task holds at once.
pub(crate) const STRIP: usize = 6;
/// Rows whose sums a task holds at once, about.
pub(crate) const ROWS: usize = 240;

/// `out = epilogue(x W^T)` for `x [m, k]`, a weight `[n, k]` and `out [m, n]`.
///
/// Sums are f32, each added up in the order of `k`, whatever `m`, `n`, the strides, the number of
/// threads and the rows beside: a product of some rows equals these rows of the whole product, to
/// the bit.
///
/// # How it is divided
///
/// The rows of `x` are packed once. A task computes a strip of up to 192 outputs for all rows, so a
/// weight that is widened is widened once, by the task that reads it. If there are fewer strips
/// than threads, tasks have a part of the rows each, and what has to be widened is widened before
/// they begin.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn multiply(context: Context, x: Matrix, weight: &Weight, epilogue: &Epilogue, out: MatrixMut) {
    let ([n, k], m) = (weight.shape(), x.rows());
    assert_eq!(x.columns(), k, "columns of x, for a weight of {n}x{k}");
    assert_eq!([out.rows(), out.columns()], [m, n], "the product of {m}x{k} and {n}x{k}");
    epilogue.check(m, n);
    if m == 0 || n == 0 {
        return;
    }
    let word = Word::of(context.kernels, weight.precision());
    let (steps, rows) = (word.steps(k), word.tile_rows(context.kernels));
    let mut tiles = context.pool.words(m * steps);
    if steps > 0 {
        tiles.par_chunks_mut(rows * steps).enumerate().for_each(|(tile, out)| {
            let own = tile * rows..(tile * rows + rows).min(m);
            let width = own.len();
            context.kernels.run(Pack { word, from: &x, own, out, width });
        });
    }
    let product = Product { word, steps, rows, tiles: &tiles, epilogue, out: Shared::new(out) };
    product.compute(context, [m, n], weight);
}

/// A product whose rows are packed.
struct Product<'a> {
    word: Word,
    steps: usize,
    /// Rows of a tile; the last may have fewer.
    rows: usize,
    /// Tiles `[steps, rows]`, one after the other.
    tiles: &'a [u32],
    epilogue: &'a Epilogue<'a>,
    out: Shared<'a>,
}

/// Where the panels of a product come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Every panel, `[steps, 32]`, one after the other.
    Ready(&'a [u32]),
    /// Widened by whoever reads it.
    Weight(&'a Weight<'a>),
}

impl Product<'_> {
    fn compute(&self, context: Context, [m, n]: [usize; 2], weight: &Weight) {
        let (panels, threads) = (n.div_ceil(PANEL), rayon::current_num_threads());
        let strip = panels.div_ceil(2 * threads).clamp(1, STRIP);
        let strips = panels.div_ceil(strip);
        let tiles = m.div_ceil(self.rows);
        let parts = if strips < threads { threads.div_ceil(strips).min(tiles) } else { 1 };
        let part = tiles.div_ceil(parts) * self.rows;
        let len = self.steps * PANEL;
        let is_ready = matches!(weight, Weight::Packed(packed) if packed.word() == self.word);
        let mut widened = None;
        if parts > 1 && !is_ready && len > 0 {
            let widened = widened.insert(context.pool.words(panels * len));
            widened.par_chunks_exact_mut(len).enumerate().for_each(|(panel, out)| {
                context.kernels.run(Widen { weight, word: self.word, panel, out });
            });
        }
        let source = widened.as_deref().map_or(Source::Weight(weight), Source::Ready);
        (0..strips * parts).into_par_iter().with_max_len(1).for_each(|task| {
            let (own, rows) = (task / parts * strip, task % parts * part);
            let panels = own..(own + strip).min(panels);
            let rows = rows..(rows + part).min(m);
            if rows.is_empty() {
                return;
            }
            let strip = Strip { product: self, context, source, panels, rows, n };
            self.word.run(context.kernels, strip);
        });
    }
}

/// Widens one panel.
struct Widen<'a> {
    weight: &'a Weight<'a>,
    word: Word,
    panel: usize,
    out: &'a mut [u32],
}

impl Work for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, _: U) {
        match self.weight {
            Weight::Packed(packed) if packed.word() == self.word => {
                self.out.copy_from_slice(packed.panel(self.panel));
            }
            Weight::Packed(packed) => widen_pairs(packed.panel(self.panel), self.out),
            Weight::Widened { panels, .. } => {
                widen_panel(*panels, self.panel, self.word, self.out);
            }
        }
    }
}

/// The task of some panels and some rows.
struct Strip<'a> {
    product: &'a Product<'a>,
    context: Context<'a>,
    source: Source<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
    n: usize,
}

impl Work for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        let Product { word, steps, .. } = *self.product;
        let len = steps * PANEL;
        let (first, count) = (self.panels.start, self.panels.len());
        let held;
        let mut panels: [&[u32]; STRIP] = [&[]; STRIP];
        match self.source {
            Source::Ready(ready) => {
                for (panel, number) in panels.iter_mut().zip(self.panels.clone()) {
                    *panel = &ready[number * len..][..len];
                }
            }
            Source::Weight(Weight::Packed(packed)) if packed.word() == word => {
                for (panel, number) in panels.iter_mut().zip(self.panels.clone()) {
                    *panel = packed.panel(number);
                }
            }
            Source::Weight(weight) => {
                let mut widened = self.context.pool.words(count * len);
                for (number, out) in widened.chunks_exact_mut(len.max(1)).enumerate() {
                    let (weight, panel) = (weight, first + number);
                    Widen { weight, word, panel, out }.run(unit);
                }
                held = widened;
                for (panel, held) in panels.iter_mut().zip(held.chunks_exact(len.max(1))) {
                    *panel = held;
                }
            }
        }
        let at_once = ROWS.next_multiple_of(self.product.rows);
        let mut sums = self.context.pool.floats(at_once * count * PANEL);
        for start in self.rows.clone().step_by(at_once) {
            let rows = start..(start + at_once).min(self.rows.end);
            self.multiply(unit, rows, &panels[..count], &mut sums);
        }
    }
}

impl Strip<'_> {
    /// Some rows of the strip. `sums [rows, 32 panels]` holds what is not finished.
    #[inline(always)]
    fn multiply<U: Unit>(&self, unit: U, rows: Range<usize>, panels: &[&[u32]], sums: &mut [f32]) {
        let Product { word, steps, rows: height, tiles, .. } = *self.product;
        let at_once = if word == Word::Pair { PAIR_STEPS } else { STEPS };
        let width = panels.len() * PANEL;
        let mut start = 0;
        loop {
            let some = at_once.min(steps - start);
            for row in rows.clone().step_by(height) {
                let rows_of = height.min(rows.end - row);
                let a = &tiles[row * steps + start * rows_of..][..some * rows_of];
                let sums = &mut sums[(row - rows.start) * width..][..rows_of * width];
                for (panel, b) in panels.iter().enumerate() {
                    unit.multiply(Tile {
                        rows: rows_of,
                        a,
                        b: &b[start * PANEL..][..some * PANEL],
                        sums: &mut sums[panel * PANEL..],
                        stride: width,
                        first: start == 0,
                    });
                }
                if start + some == steps {
                    self.finish(row, sums, width);
                }
            }
            start += some;
            if start >= steps {
                return;
            }
        }
    }

    /// Stores the rows of a tile.
    #[inline(always)]
    fn finish(&self, first: usize, sums: &mut [f32], width: usize) {
        let start = self.panels.start * PANEL;
        let len = width.min(self.n - start);
        for (number, sums) in sums.chunks_exact_mut(width).enumerate() {
            let row = first + number;
            #[expect(unsafe_code, reason = "a part of a matrix that other tasks write too")]
            // SAFETY: no other task has these panels and this row, and this one is done with the
            // part before it asks for another.
            let mut out = unsafe { self.product.out.part(row, start, len) };
            self.product.epilogue.finish((row, start), &mut sums[..len], &mut out);
        }
    }
}
