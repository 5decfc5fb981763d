//! What a task reads of the frames: some channels of a part of the picture, with its surroundings.

use std::ops::Range;

use crate::conv::geometry::Geometry;
use crate::matrix::Elements;
use crate::words::Word;

/// Frames `[channels, height, width]`, the same size each; `None` is a frame of zeros.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    /// The frames, in order.
    pub frames: &'a [Option<Elements<'a>>],
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
}

/// A part of the picture that comes out, and the planes of words that it is computed from.
///
/// With a stride of `s`, the columns that are `0, 1, .. s - 1` beyond a multiple of it are planes
/// of their own, and so are the rows: then neighbours in the output are neighbours in every plane.
/// A plane has more columns than the output; what is computed from those is not used.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) geometry: Geometry,
    /// Output rows.
    pub(crate) rows: Range<usize>,
    /// Output columns.
    pub(crate) columns: Range<usize>,
}

impl Patch {
    /// Rows or columns beyond those of the output.
    fn halo(&self) -> usize {
        (self.geometry.kernel - 1) / self.geometry.stride
    }

    /// Columns of a plane.
    pub(crate) fn width(&self) -> usize {
        self.columns.len() + self.halo()
    }

    /// Words of a plane.
    pub(crate) fn plane(&self) -> usize {
        (self.rows.len() + self.halo()) * self.width()
    }

    /// Outputs that are computed, those that are not used included.
    pub(crate) fn outputs(&self) -> usize {
        (self.rows.len() - 1) * self.width() + self.columns.len()
    }

    /// Planes of a word of channels.
    fn planes(&self) -> usize {
        self.geometry.taps * self.geometry.stride * self.geometry.stride
    }

    /// Words of the buffer for `words` words of channels. Reads of whole vectors end in it.
    pub(crate) fn buffer(&self, words: usize) -> usize {
        self.planes() * words * self.plane() + 64 + (self.halo() + 1) * (self.width() + 1)
    }

    /// Where each tap begins to read, in the order of the weights.
    pub(crate) fn offsets(&self, words: usize) -> Vec<usize> {
        let Geometry { taps, kernel, stride, .. } = self.geometry;
        let mut offsets = Vec::with_capacity(self.geometry.taps_of_channel());
        for tap in 0..taps {
            for (y, x) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                let phase = (tap * stride + y % stride) * stride + x % stride;
                let within = y / stride * self.width() + x / stride;
                offsets.push(phase * words * self.plane() + within);
            }
        }
        offsets
    }

    /// Fills the buffer `[taps, phases, words, plane]` for the channels `channels` of frames that
    /// begin with that of the first tap.
    #[inline(always)]
    pub(crate) fn fill(&self, word: Word, frames: Frames, channels: Range<usize>, out: &mut [u32]) {
        let (stride, words) = (self.geometry.stride, word.steps(channels.len()));
        let (plane, width) = (self.plane(), self.width());
        let mut lines = [[0f32; WIDTH_MAX]; 2];
        for (number, out) in out.chunks_exact_mut(plane).take(self.planes() * words).enumerate() {
            let (step, phase) = (number % words, number / words % (stride * stride));
            let Some(frame) = frames.frames[number / words / (stride * stride)] else {
                out.fill(0);
                continue;
            };
            let first = channels.start + step * word.numbers();
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let padded = (self.rows.start + row) * stride + phase / stride;
                let Some(y) = self.geometry.input(padded, frames.height) else {
                    out.fill(0);
                    continue;
                };
                let line = |channel: usize| {
                    let start = (channel * frames.height + y) * frames.width;
                    frame.part(start, frames.width)
                };
                let [line_0, line_1] = &mut lines;
                self.line(line(first), phase % stride, &mut line_0[..width]);
                if word == Word::Pair && first + 1 < channels.end {
                    self.line(line(first + 1), phase % stride, &mut line_1[..width]);
                    pairs(&line_0[..width], &line_1[..width], out);
                } else if word == Word::Pair {
                    Word::Rounded.convert((&line_0[..width]).into(), out);
                    out.iter_mut().for_each(|word| *word >>= 16);
                } else {
                    word.convert((&line_0[..width]).into(), out);
                }
            }
        }
    }

    /// One row of a plane, from a row of the input.
    #[inline(always)]
    fn line(&self, from: Elements, phase: usize, out: &mut [f32]) {
        let Geometry { stride, pad_before, doubled, .. } = self.geometry;
        if stride == 1 && !doubled {
            let skip = pad_before.saturating_sub(self.columns.start).min(out.len());
            let start = self.columns.start.saturating_sub(pad_before).min(from.len());
            let count = (from.len() - start).min(out.len() - skip);
            out[..skip].fill(0.);
            from.part(start, count).widen_to(&mut out[skip..skip + count]);
            out[skip + count..].fill(0.);
            return;
        }
        let number = |x: usize| match from {
            Elements::F32(numbers) => numbers[x],
            Elements::Bf16(numbers) => numbers[x].to_f32(),
        };
        for (column, out) in out.iter_mut().enumerate() {
            let padded = (self.columns.start + column) * stride + phase;
            *out = self.geometry.input(padded, from.len()).map_or(0., number);
        }
    }
}

/// The most columns of a plane.
pub(crate) const WIDTH_MAX: usize = 512;

/// Pairs of two channels.
#[inline(always)]
fn pairs(first: &[f32], second: &[f32], out: &mut [u32]) {
    for ((out, first), second) in out.iter_mut().zip(first).zip(second) {
        *out = crate::matrix::round(*first) | crate::matrix::round(*second) << 16;
    }
}
