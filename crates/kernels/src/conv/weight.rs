//! Weights of a convolution, packed.

use std::fmt;

use crate::conv::geometry::Geometry;
use crate::lines::Lines;
use crate::matrix::Matrix;
use crate::path::Kernels;
use crate::words::{Precision, Word};

/// Words of channels that are read at once. Sums are added up block by block, so this is a part of
/// what the bits depend on.
pub(crate) const CHANNEL_WORDS: usize = 16;

/// Words that a packed convolution takes, of four bytes each.
pub fn packed_conv_words(
    kernels: Kernels,
    [outputs, channels]: [usize; 2],
    geometry: Geometry,
    precision: Precision,
) -> usize {
    outputs * geometry.taps_of_channel() * Word::of(kernels, precision).steps(channels)
}

/// Weights of a convolution, packed for one path.
///
/// Tiles of outputs, one after the other: each has words `[blocks of channels, taps, words of a
/// block, outputs]`.
pub struct PackedConv {
    lines: Lines,
    pub(crate) word: Word,
    pub(crate) kernels: Kernels,
    pub(crate) geometry: Geometry,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
}

impl PackedConv {
    /// Packs a weight in the order of the files, `[outputs, channels, taps, kernel, kernel]`, the
    /// last four in one row.
    ///
    /// # Panics
    ///
    /// If the rows are not whole channels.
    pub fn new(kernels: Kernels, weight: Matrix, geometry: Geometry, precision: Precision) -> Self {
        geometry.check();
        let (taps, outputs) = (geometry.taps_of_channel(), weight.rows());
        assert!(weight.columns().is_multiple_of(taps), "{} weights of {taps}", weight.columns());
        let channels = weight.columns() / taps;
        let word = Word::of(kernels, precision);
        let lines =
            Lines::zeros(packed_conv_words(kernels, [outputs, channels], geometry, precision));
        let mut packed = Self { lines, word, kernels, geometry, channels, outputs };
        packed.fill(&weight);
        packed
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        self.lines.words().len() * 4
    }

    /// Outputs of a tile; the last may have fewer.
    pub(crate) fn tile_rows(&self) -> usize {
        self.word.tile_rows(self.kernels)
    }

    /// Words of each output.
    fn words_of_output(&self) -> usize {
        self.geometry.taps_of_channel() * self.word.steps(self.channels)
    }

    /// Words `[taps, words of the block, rows]` of block `block` of channels, for the `rows`
    /// outputs from `first` on, which are a tile.
    #[inline(always)]
    pub(crate) fn part(&self, first: usize, rows: usize, block: usize) -> &[u32] {
        let taps = self.geometry.taps_of_channel();
        let words = self.block_words(block);
        let start = first * self.words_of_output() + block * CHANNEL_WORDS * taps * rows;
        &self.lines.words()[start..start + taps * words * rows]
    }

    /// Words of a block of channels.
    #[inline(always)]
    pub(crate) fn block_words(&self, block: usize) -> usize {
        CHANNEL_WORDS.min(self.word.steps(self.channels) - block * CHANNEL_WORDS)
    }

    fn fill(&mut self, weight: &Matrix) {
        let (taps, numbers) = (self.geometry.taps_of_channel(), self.word.numbers());
        let (word, channels, steps) = (self.word, self.channels, self.word.steps(self.channels));
        let (len, height) = (self.words_of_output(), self.tile_rows());
        let mut line = vec![0.; taps * channels];
        let mut of_tap = vec![0.; steps * numbers];
        let mut words = vec![0; steps];
        for output in 0..self.outputs {
            let first = output / height * height;
            let rows = height.min(self.outputs - first);
            weight.part(output, 0, taps * channels).widen_to(&mut line);
            for tap in 0..taps {
                let own = line.iter().skip(tap).step_by(taps);
                of_tap.iter_mut().zip(own).for_each(|(to, from)| *to = *from);
                word.convert((&of_tap[..channels]).into(), &mut words);
                for (step, word) in words.iter().enumerate() {
                    let (block, step) = (step / CHANNEL_WORDS, step % CHANNEL_WORDS);
                    let of_block = CHANNEL_WORDS.min(steps - block * CHANNEL_WORDS);
                    let before = block * CHANNEL_WORDS * taps + tap * of_block + step;
                    let at = first * len + before * rows + (output - first);
                    self.lines.words_mut()[at] = *word;
                }
            }
        }
    }
}

impl fmt::Debug for PackedConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, outputs, geometry, .. } = self;
        write!(f, "PackedConv({channels} to {outputs}, {geometry:?})")
    }
}
