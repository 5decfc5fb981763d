//! The tokens of a video in runs of bounded length.
//!
//! Except for self-attention, a block treats every token separately. So it works on one run of
//! tokens after the other, and its intermediate tensors are as large as a run, not as the video.
//! (The inner tensor of the feed-forward alone would be as large as six residual streams.)

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

/// Tokens of a run on the CPU. Each run reads all weights of the block, and widens those in half
/// precision, so much shorter runs would take longer.
const TOKENS_AT_ONCE: usize = 512;

/// Tokens of a run on a GPU, where a shorter run would not use the whole device.
const TOKENS_AT_ONCE_OFF_CPU: usize = 4096;

/// Tokens of `batch` videos on the CPU in runs of about equal length, each of one video: numbers of
/// rows of `[B L, D]`.
pub(crate) fn runs(batch: usize, tokens: usize) -> impl Iterator<Item = Range<usize>> {
    let length = run_tokens(tokens);
    (0..batch).flat_map(move |video| {
        let end = (video + 1) * tokens;
        (video * tokens..end).step_by(length).map(move |start| start..(start + length).min(end))
    })
}

/// `0..tokens` in runs of about equal length. Over the whole batch, a run has at most the tokens
/// above, but at least 16 per batch element.
pub(crate) fn chunks(
    device: &Device,
    batch: usize,
    tokens: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let at_once = if device.is_cpu() { TOKENS_AT_ONCE } else { TOKENS_AT_ONCE_OFF_CPU };
    let length = length(at_once, batch, tokens);
    (0..tokens).step_by(length).map(move |start| start..(start + length).min(tokens))
}

/// Tokens of a run on the CPU, of one video of `tokens` tokens.
pub(crate) fn run_tokens(tokens: usize) -> usize {
    length(TOKENS_AT_ONCE, 1, tokens)
}

fn length(at_once: usize, batch: usize, tokens: usize) -> usize {
    let longest = (at_once / batch.max(1)).max(16);
    tokens.div_ceil(tokens.div_ceil(longest).max(1)).max(1)
}

/// Assembles a tensor `[B,L,D]` from runs of its tokens.
pub(crate) struct Assembly {
    tokens: usize,
    whole: Option<Tensor>,
}

impl Assembly {
    /// An assembly of `tokens` tokens, still empty.
    pub(crate) fn new(tokens: usize) -> Self {
        Self { tokens, whole: None }
    }

    /// Puts `part [B,l,D]` at tokens `start..start + l`. A part with all tokens is not copied.
    pub(crate) fn put(&mut self, start: usize, part: Tensor) -> Result<()> {
        let (batch, tokens, width) = part.dims3()?;
        if tokens == self.tokens {
            self.whole = Some(part);
            return Ok(());
        }
        let shape = (batch, self.tokens, width);
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => Tensor::zeros(shape, part.dtype(), part.device())?,
        };
        whole.slice_set(&part.contiguous()?, 1, start)?;
        self.whole = Some(whole);
        Ok(())
    }

    /// The assembled tensor. Every part must be in place.
    pub(crate) fn finish(self) -> Result<Tensor> {
        self.whole.ok_or_else(|| Error::input("tokens", "at least one", self.tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, numbers};

    #[test]
    fn runs_cover_the_tokens_and_are_of_one_length() {
        let lengths = |batch, tokens| {
            chunks(&Device::Cpu, batch, tokens).map(|c| c.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(1, 512), [512]);
        assert_eq!(lengths(1, 513), [257, 256]);
        assert_eq!(lengths(2, 512), [256, 256]);
        assert_eq!(lengths(1, 4680), [468; 10]);
        assert!(lengths(1, 0).is_empty());
        // However many videos there are, sixteen tokens of each.
        assert_eq!(lengths(100, 33), [11, 11, 11]);
        assert_eq!((lengths(32, 16), lengths(33, 17)), (vec![16], vec![9, 8]));
        assert_eq!((lengths(31, 17), lengths(0, 512)), (vec![9, 8], vec![512]));
        for (batch, tokens) in [(1, 1), (3, 171), (1, 1025), (7, 5000)] {
            let runs: Vec<_> = chunks(&Device::Cpu, batch, tokens).flatten().collect();
            assert_eq!(runs, (0..tokens).collect::<Vec<_>>());
            assert!(lengths(batch, tokens).iter().all(|length| length * batch <= 512));
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let whole = noise(1, &[2, 7, 3]);
        let mut assembly = Assembly::new(7);
        for range in [0..3, 3..6, 6..7] {
            let part = whole.narrow(1, range.start, range.len()).unwrap();
            assembly.put(range.start, part).unwrap();
        }
        assert_eq!(numbers(&assembly.finish().unwrap()), numbers(&whole));
        assert!(Assembly::new(7).finish().is_err());
    }
}
