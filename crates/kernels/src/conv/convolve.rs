//! The convolution of frames.

use rayon::prelude::*;

use crate::conv::geometry::Geometry;
use crate::conv::patch::{Frames, Patch, WIDTH_MAX};
use crate::conv::weight::{CHANNEL_WORDS, PackedConv};
use crate::matrix::{Matrix, MatrixMut};
use crate::product::Context;
use crate::shared::Shared;
use crate::simd::dispatch::Work;
use crate::simd::unit::{PANEL, Unit, Window};

/// Words of the planes that a task reads at once: they stay in the second cache.
const PLANES: usize = 96 << 10;
/// Sums that a task holds.
const SUMS: usize = 192 << 10;
/// Columns that a task computes at most.
const COLUMNS: usize = 256;

/// Convolves frames, adds `bias [outputs]` and `add`, and writes `out [frames outputs, height
/// width]`: each row is a channel of a frame, as in the input.
///
/// `frames` has the frames of the past in front, as many as the kernel needs: there is no padding
/// in time, and no copy to put them together.
///
/// Sums are f32, each in an order that depends on channels and kernel alone: so the bits do not
/// depend on threads, on the size of the picture or on what of it is computed.
///
/// # How it is divided
///
/// A task computes all outputs for a part of a frame. Block of channels by block of channels, it
/// copies what the part and its surroundings have of them, padding included, and adds up all taps;
/// so an input is copied a few times, not once for each tap.
///
/// # Panics
///
/// If the weight was packed for other kernels, or if the shapes do not fit each other.
pub fn convolve(
    context: Context,
    (frames, conv): (Frames, &PackedConv),
    bias: Option<&[f32]>,
    add: Option<Matrix>,
    out: MatrixMut,
) {
    let geometry = conv.geometry;
    assert_eq!(conv.kernels, context.kernels, "kernels of a packed convolution");
    let frame = conv.channels * frames.height * frames.width;
    for given in frames.frames.iter().flatten() {
        assert_eq!(given.len(), frame, "numbers of a frame");
    }
    let (height, width) = (geometry.output(frames.height), geometry.output(frames.width));
    let count = geometry.frames(frames.frames.len());
    let shape = [count * conv.outputs, height * width];
    assert_eq!([out.rows(), out.columns()], shape, "frames and channels, and pixels");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), conv.outputs, "numbers of the bias");
    }
    if let Some(add) = add {
        assert_eq!([add.rows(), add.columns()], shape, "what is added");
    }
    if shape[0] == 0 || shape[1] == 0 {
        return;
    }
    let steps = conv.word.steps(conv.channels);
    let shape = (geometry, steps, conv.outputs);
    let patches = patches(shape, [count, height, width], rayon::current_num_threads());
    let (out, bias, add) = (Shared::new(out), bias.unwrap_or_default(), add.as_ref());
    (0..count * patches.len()).into_par_iter().with_max_len(1).for_each(|task| {
        let number = task / patches.len();
        let first = number * geometry.time_stride;
        let frames = Frames { frames: &frames.frames[first..first + geometry.taps], ..frames };
        let patch = &patches[task % patches.len()];
        let first = number * conv.outputs;
        let part = Part { context, frames, conv, patch, first, width, bias, add, out: &out };
        conv.word.run(context.kernels, part);
    });
}

/// Cuts a frame into parts that fit the caches, and enough of them for all threads.
pub(crate) fn patches(
    (geometry, steps, outputs): (Geometry, usize, usize),
    [count, height, width]: [usize; 3],
    threads: usize,
) -> Vec<Patch> {
    let Geometry { taps, kernel, stride, .. } = geometry;
    let halo = (kernel - 1) / stride;
    assert!(halo + COLUMNS <= WIDTH_MAX, "a kernel of {kernel} columns");
    let columns = width.div_ceil(width.div_ceil(COLUMNS));
    let across = width.div_ceil(columns);
    let words = CHANNEL_WORDS.min(steps).max(1);
    let read = PLANES / (taps * stride * stride * words * (columns + halo));
    let held = SUMS / (outputs * (columns + halo));
    let enough = (height * count * across).div_ceil(4 * threads);
    let rows = read.saturating_sub(halo).min(held).min(enough).clamp(1, height);
    let of = |y: usize, x: usize| Patch {
        geometry,
        rows: y..(y + rows).min(height),
        columns: x..(x + columns).min(width),
    };
    let starts = (0..height).step_by(rows);
    starts.flat_map(|y| (0..width).step_by(columns).map(move |x| of(y, x))).collect()
}

/// All outputs of a part of a frame.
struct Part<'a> {
    context: Context<'a>,
    /// Those under the kernel.
    frames: Frames<'a>,
    conv: &'a PackedConv,
    patch: &'a Patch,
    /// The first channel of the frame among the rows of the output.
    first: usize,
    /// Columns of the output.
    width: usize,
    /// None, or one for each output.
    bias: &'a [f32],
    add: Option<&'a Matrix<'a>>,
    out: &'a Shared<'a>,
}

impl Work for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        let Self { conv, patch, .. } = self;
        let steps = conv.word.steps(conv.channels);
        let stride = patch.outputs().next_multiple_of(PANEL);
        let mut sums = self.context.pool.floats(conv.outputs * stride);
        if steps == 0 {
            sums.fill(0.);
        }
        let mut planes = self.context.pool.words(patch.buffer(CHANNEL_WORDS.min(steps)));
        for block in 0..steps.div_ceil(CHANNEL_WORDS) {
            let words = conv.block_words(block);
            let start = block * CHANNEL_WORDS * conv.word.numbers();
            let channels = start..(start + words * conv.word.numbers()).min(conv.channels);
            patch.fill(conv.word, self.frames, channels, &mut planes);
            let offsets = patch.offsets(words);
            let mut at = offsets.clone();
            for first in (0..conv.outputs).step_by(U::ROWS) {
                let rows = U::ROWS.min(conv.outputs - first);
                for pixel in (0..stride).step_by(PANEL) {
                    at.iter_mut().zip(&offsets).for_each(|(at, offset)| *at = offset + pixel);
                    unit.convolve(Window {
                        rows,
                        a: conv.part(first, rows, block),
                        b: &planes,
                        offsets: &at,
                        words,
                        plane: patch.plane(),
                        sums: &mut sums[first * stride + pixel..],
                        stride,
                        first: block == 0,
                    });
                }
            }
        }
        for (output, sums) in sums.chunks_exact_mut(stride).enumerate() {
            self.store(output, sums);
        }
    }
}

impl Part<'_> {
    /// Stores one output.
    #[inline(always)]
    fn store(&self, output: usize, sums: &mut [f32]) {
        let (patch, row) = (self.patch, self.first + output);
        let bias = self.bias.get(output).copied();
        let mut other = [0.; COLUMNS];
        for (line, sums) in patch.rows.clone().zip(sums.chunks_mut(patch.width())) {
            let sums = &mut sums[..patch.columns.len()];
            let start = line * self.width + patch.columns.start;
            if let Some(bias) = bias {
                sums.iter_mut().for_each(|sum| *sum += bias);
            }
            if let Some(add) = self.add {
                let other = &mut other[..sums.len()];
                add.part(row, start, sums.len()).widen_to(other);
                sums.iter_mut().zip(&*other).for_each(|(sum, other)| *sum += other);
            }
            #[expect(unsafe_code, reason = "a part of a matrix that other tasks write too")]
            // SAFETY: no other task has this part of this frame.
            let mut out = unsafe { self.out.part(row, start, sums.len()) };
            out.round_from(sums);
        }
    }
}
