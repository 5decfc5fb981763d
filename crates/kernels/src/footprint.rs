//! Bytes of the buffers that operations lend from the pool, before they run: at most, within what the
//! size classes of the pool add.

use crate::attention::attend::heads_at_once;
use crate::attention::key_value::Layout;
use crate::conv::geometry::Geometry;
use crate::conv::weight::CHANNEL_WORDS;
use crate::path::Kernels;
use crate::pool::class;
use crate::product::{ROWS, STRIP};
use crate::simd::unit::PANEL;
use crate::words::{Precision, Word};

/// Bytes of a buffer of so many words.
fn buffer(words: usize) -> usize {
    4 * class(words)
}

/// Bytes of a [`Buffer`](crate::Buffer).
pub fn matrix_bytes(format: Precision, [rows, columns]: [usize; 2]) -> usize {
    buffer(match format {
        Precision::F32 => rows * columns,
        Precision::Bf16 => (rows * columns).div_ceil(2),
    })
}

/// Bytes that [`multiply`](crate::multiply) lends for `x [m, k]` and a weight `[n, k]`, which is
/// `packed` in the words that the product reads or not, with `threads` threads.
pub fn product_bytes(
    kernels: Kernels,
    ([m, k], n): ([usize; 2], usize),
    (precision, packed): (Precision, bool),
    threads: usize,
) -> usize {
    let word = Word::of(kernels, precision);
    let steps = word.steps(k);
    let panels = n.div_ceil(PANEL);
    let strip = panels.div_ceil(2 * threads).clamp(1, STRIP);
    let is_read = packed && (precision == Precision::F32 || word == Word::Pair);
    let widened = if is_read { 0 } else { buffer(strip * steps * PANEL) };
    let sums = buffer(ROWS.next_multiple_of(word.tile_rows(kernels)) * strip * PANEL);
    buffer(m * steps) + threads * (widened + sums)
}

/// Bytes that [`attend`](crate::attend) lends for `queries` queries of each of `heads` heads on `keys`
/// keys.
pub fn attention_bytes(
    kernels: Kernels,
    ([queries, keys], heads, head_dim): ([usize; 2], usize, usize),
    precision: Precision,
    threads: usize,
) -> usize {
    let word = Word::of(kernels, precision);
    let layout = Layout { word, keys, head_dim, heads };
    let at_once = heads_at_once(queries.div_ceil(crate::attention::attend::GROUP), heads, threads);
    let rows = queries.min(crate::attention::attend::GROUP);
    let tile = word.tile_rows(kernels);
    let of_thread = buffer(rows * word.steps(head_dim))
        + buffer(rows * head_dim.next_multiple_of(PANEL))
        + buffer(tile * layout.block())
        + buffer(tile * word.steps(layout.block()));
    buffer(at_once * layout.head_words()) + threads * of_thread
}

/// Bytes of packed keys and values: [`KeyValue::bytes`](crate::KeyValue::bytes).
pub fn key_value_bytes(
    kernels: Kernels,
    (keys, heads, head_dim): (usize, usize, usize),
    precision: Precision,
) -> usize {
    let layout = Layout { word: Word::of(kernels, precision), keys, head_dim, heads };
    4 * heads * layout.head_words()
}

/// Bytes that [`convolve`](crate::convolve) lends for so many frames of `height` rows and `width`
/// columns that come out.
pub fn convolution_bytes(
    kernels: Kernels,
    (geometry, [outputs, channels]): (Geometry, [usize; 2]),
    out: [usize; 3],
    precision: Precision,
    threads: usize,
) -> usize {
    let word = Word::of(kernels, precision);
    let steps = word.steps(channels);
    let shape = (geometry, steps, outputs);
    let patches = crate::conv::convolve::patches(shape, out, threads);
    let of_patch = |patch: &crate::conv::patch::Patch| {
        let sums = outputs * patch.outputs().next_multiple_of(PANEL);
        buffer(sums) + buffer(patch.buffer(CHANNEL_WORDS.min(steps)))
    };
    threads * patches.iter().map(of_patch).max().unwrap_or(0)
}
