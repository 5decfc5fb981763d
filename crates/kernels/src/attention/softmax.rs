//! The softmax of a row of scores that come in blocks.

use crate::functions::exp_not_above_zero;

/// What is known of the softmax of a row after some blocks of its scores: the largest score, and
/// the sum of the weights relative to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    largest: f32,
    sum: f32,
}

/// Interleaved sums and maxima: the compiler makes vectors of them.
const LANES: usize = 16;

impl Running {
    /// Before the first block.
    pub(crate) const NONE: Self = Self { largest: f32::NEG_INFINITY, sum: 0. };

    /// Turns a block of scores, which are multiplied by `scale`, into weights relative to the
    /// largest score so far. Gives the factor for what was weighted before, unless it is one.
    ///
    /// A score that is NaN gives a weight that is, and so a sum that is.
    #[inline(always)]
    pub(crate) fn weigh<const FUSED: bool>(
        &mut self,
        scores: &mut [f32],
        scale: f32,
    ) -> Option<f32> {
        let mut tops = [self.largest; LANES];
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        for scores in whole.iter_mut() {
            for (top, score) in tops.iter_mut().zip(scores) {
                *score *= scale;
                *top = if *score > *top { *score } else { *top };
            }
        }
        for (top, score) in tops.iter_mut().zip(rest.iter_mut()) {
            *score *= scale;
            *top = if *score > *top { *score } else { *top };
        }
        let largest = tops.into_iter().fold(self.largest, |a, b| if b > a { b } else { a });
        // Scores that are all minus infinity have weights of zero, not of NaN, while there may
        // be others.
        let base = if largest == f32::NEG_INFINITY { 0. } else { largest };
        let mut sums = [0.; LANES];
        for scores in whole {
            for (sum, score) in sums.iter_mut().zip(scores) {
                *score = exp_not_above_zero::<FUSED>(*score - base);
                *sum += *score;
            }
        }
        for (sum, score) in sums.iter_mut().zip(rest) {
            *score = exp_not_above_zero::<FUSED>(*score - base);
            *sum += *score;
        }
        let factor = exp_not_above_zero::<FUSED>(self.largest - base);
        self.sum = self.sum * factor + sums.into_iter().sum::<f32>();
        let grew = self.largest != largest;
        self.largest = largest;
        grew.then_some(factor)
    }

    /// What turns the weighted sum into the average. Of no weights at all it is zero.
    pub(crate) fn normalizer(&self, keys: usize) -> f32 {
        if keys == 0 { 0. } else { self.sum.recip() }
    }
}
