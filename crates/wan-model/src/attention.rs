//! Attention, full or block-causal, without a whole matrix of scores.

use std::ops::Range;

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::fused;
use crate::product::product;

/// Largest number of scores that one thread holds at once.
const SCORES_MAX: usize = 1 << 21;

/// Largest number of scores at once off the CPU, over all heads: at most 1 GB with all copies, and
/// enough work for a GPU.
const SCORES_MAX_OFF_CPU: usize = 1 << 26;

/// Which tokens attend to which in self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Every token attends to every token.
    Bidirectional,
    /// Blocks of this many latent frames: a token attends to its own block and those before it.
    /// 0 and 1 mean no mask, as in SkyReels-V2 and diffusers.
    BlockCausal(usize),
}

impl Attention {
    /// The key frames to which query frame `frame` of `frames` attends; always a prefix.
    pub fn visible_frames(self, frame: usize, frames: usize) -> Range<usize> {
        match self {
            Self::BlockCausal(block) if block > 1 => 0..((frame / block + 1) * block).min(frames),
            _ => 0..frames,
        }
    }

    /// The query frames in runs with the same keys, each with the number of its key frames.
    fn spans(self, frames: usize) -> Vec<(Range<usize>, usize)> {
        let block = match self {
            Self::BlockCausal(block) if block > 1 => block,
            _ => frames.max(1),
        };
        (0..frames)
            .step_by(block)
            .map(|start| {
                (start..(start + block).min(frames), self.visible_frames(start, frames).end)
            })
            .collect()
    }
}

/// Queries, keys and values `[B,L,D]` of one dtype; the last axis is `heads` heads side by side.
/// Queries are already multiplied by the softmax scale. Scores and softmax are f32 for any dtype;
/// on the CPU everything else is too, one head at a time.
pub(crate) struct Heads<'a> {
    pub(crate) query: &'a Tensor,
    pub(crate) key: &'a Tensor,
    pub(crate) value: &'a Tensor,
    pub(crate) heads: usize,
}

/// A run of query tokens, and the number of their key tokens.
struct Span {
    queries: Range<usize>,
    keys: usize,
}

impl Heads<'_> {
    /// Self-attention of a video of `frames` frames, `[B,L,D]`.
    pub(crate) fn attend_frames(&self, attention: Attention, frames: usize) -> Result<Tensor> {
        self.attend(self.spans(attention, frames)?)
    }

    fn spans(&self, attention: Attention, frames: usize) -> Result<Vec<Span>> {
        let frame_tokens = self.query.dim(1)? / frames;
        let spans = attention.spans(frames).into_iter().map(|(queries, keys)| Span {
            queries: queries.start * frame_tokens..queries.end * frame_tokens,
            keys: keys * frame_tokens,
        });
        Ok(spans.collect())
    }

    /// Attention of every query to every key, `[B,Lq,D]`.
    pub(crate) fn attend_all(&self) -> Result<Tensor> {
        self.attend(vec![Span { queries: 0..self.query.dim(1)?, keys: self.key.dim(1)? }])
    }

    fn attend(&self, spans: Vec<Span>) -> Result<Tensor> {
        if self.query.device().is_cpu() {
            self.attend_in_parallel(spans)
        } else {
            self.attend_in_turn(spans)
        }
    }

    /// Cuts each span into chunks of bounded size; the chunks of all heads run in parallel.
    fn attend_in_parallel(&self, spans: Vec<Span>) -> Result<Tensor> {
        let chunks: Vec<_> = spans.into_iter().flat_map(|span| chunks(span, SCORES_MAX)).collect();
        let (batch, queries, width) = self.query.dims3()?;
        let mut outputs = Vec::with_capacity(batch);
        for batch in 0..batch {
            let (dtype, device) = (self.query.dtype(), self.query.device());
            let output = Tensor::zeros((queries, width), dtype, device)?;
            let of_head = |head: usize| -> candle_core::Result<()> {
                let part = Part { batch, head };
                let parts = chunks.par_iter().map(|span| self.attend_chunk(part, span));
                let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
                let whole = Tensor::cat(&parts, 0)?; // [Lq,d]
                output.slice_set(&whole, 1, head * (width / self.heads))
            };
            (0..self.heads).into_par_iter().try_for_each(of_head)?;
            outputs.push(output);
        }
        // `stack` copies even a single tensor.
        match outputs.as_slice() {
            [only] => Ok(only.unsqueeze(0)?),  // [1,Lq,D]
            all => Ok(Tensor::stack(all, 0)?), // [B,Lq,D]
        }
    }

    /// Attention of one head for a chunk of queries, `[queries, d]`.
    fn attend_chunk(&self, part: Part, span: &Span) -> candle_core::Result<Tensor> {
        let head_dim = self.query.dim(2)? / self.heads;
        // [L,d]; a view for f32, because the product takes any row stride.
        let own = |tensor: &Tensor, tokens: Range<usize>| {
            let tensor = tensor.get(part.batch)?.narrow(0, tokens.start, tokens.len())?;
            tensor.narrow(1, part.head * head_dim, head_dim)?.to_dtype(DType::F32)
        };
        let query = own(self.query, span.queries.clone())?;
        let (key, value) = (own(self.key, 0..span.keys)?, own(self.value, 0..span.keys)?);
        let scores = product(&query, &key.transpose(D::Minus1, D::Minus2)?)?;
        product(&fused::softmax(scores)?, &value)?.to_dtype(self.query.dtype())
    }

    /// All heads at once, one chunk of queries after the other: a chunk is enough work for a GPU,
    /// and two at a time would need twice the memory.
    fn attend_in_turn(&self, spans: Vec<Span>) -> Result<Tensor> {
        let (batch, queries, width) = self.query.dims3()?;
        let by_head = |tensor: &Tensor| {
            let split = tensor.reshape((batch, (), self.heads, width / self.heads))?;
            split.transpose(1, 2)?.contiguous() // [B,H,L,d]
        };
        let (query, value) = (by_head(self.query)?, by_head(self.value)?);
        // The product of 16-bit floats is rounded to 16 bits, too coarse for scores, which are
        // exponents. So queries and keys are widened first.
        let key = by_head(self.key)?.to_dtype(DType::F32)?;
        let output =
            Tensor::zeros((batch, queries, width), self.query.dtype(), self.query.device())?;
        let scores_max = SCORES_MAX_OFF_CPU / (batch * self.heads).max(1);
        for span in spans.into_iter().flat_map(|span| chunks(span, scores_max)) {
            let query = query.narrow(2, span.queries.start, span.queries.len())?;
            let query = query.to_dtype(DType::F32)?.contiguous()?;
            let (key, value) = (key.narrow(2, 0, span.keys)?, value.narrow(2, 0, span.keys)?);
            let scores = product(&query, &key.transpose(2, 3)?)?; // [B,H,l,keys]
            let weights = fused::softmax(scores)?.to_dtype(value.dtype())?;
            let attended = product(&weights, &value)?.transpose(1, 2)?; // [B,l,H,d]
            output.slice_set(&attended.flatten_from(2)?.contiguous()?, 1, span.queries.start)?;
        }
        Ok(output)
    }
}

/// One head of one batch element.
#[derive(Clone, Copy)]
struct Part {
    batch: usize,
    head: usize,
}

/// Queries of a chunk on the CPU, whose scores of `keys` keys a thread holds at once; a span of fewer
/// is one chunk.
pub(crate) fn queries_at_once(keys: usize) -> usize {
    queries_of(keys, SCORES_MAX)
}

fn queries_of(keys: usize, scores_max: usize) -> usize {
    (scores_max / keys.max(1)).max(16)
}

fn chunks(span: Span, scores_max: usize) -> impl Iterator<Item = Span> {
    let rows = queries_of(span.keys, scores_max);
    let Span { queries, keys } = span;
    let end = queries.end;
    queries.step_by(rows).map(move |start| Span { queries: start..(start + rows).min(end), keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, noise};
    use candle_core::Device;

    #[test]
    fn a_block_sees_itself_and_what_came_before() {
        let causal = Attention::BlockCausal(2);
        let seen: Vec<_> = (0..5).map(|frame| causal.visible_frames(frame, 5).end).collect();
        assert_eq!(seen, [2, 2, 4, 4, 5]);
        for open in [Attention::Bidirectional, Attention::BlockCausal(1), Attention::BlockCausal(0)]
        {
            assert_eq!(open.visible_frames(0, 5), 0..5);
            assert_eq!(open.spans(5), [(0..5, 5)]);
        }
        assert_eq!(causal.spans(5), [(0..2, 2), (2..4, 4), (4..5, 5)]);
    }

    #[test]
    fn chunks_cover_the_span_within_the_bound() {
        let keys = SCORES_MAX / 20;
        let cut: Vec<_> =
            chunks(Span { queries: 3..50, keys }, SCORES_MAX).map(|s| s.queries).collect();
        assert_eq!(cut, [3..23, 23..43, 43..50]);
    }

    #[test]
    fn block_causal_equals_a_dense_mask() {
        let (frames, frame_tokens, heads, head_dim) = (5, 3, 2, 6);
        let tokens = frames * frame_tokens;
        let [query, key, value] = [1, 2, 3].map(|seed| noise(seed, &[2, tokens, heads * head_dim]));
        let attention = Attention::BlockCausal(2);
        let by_block = Heads { query: &query, key: &key, value: &value, heads }
            .attend_frames(attention, frames)
            .unwrap();

        let mut mask = Vec::new();
        for q in 0..tokens {
            let seen = attention.visible_frames(q / frame_tokens, frames);
            let sees = |k| seen.contains(&(k / frame_tokens));
            mask.extend((0..tokens).map(|k| if sees(k) { 0f32 } else { f32::NEG_INFINITY }));
        }
        let mask = Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu).unwrap();
        let split = |x: &Tensor| {
            let x = x.reshape((2, tokens, heads, head_dim)).unwrap();
            x.transpose(1, 2).unwrap().contiguous().unwrap() // [B,H,L,d]
        };
        let scores = split(&query).matmul(&split(&key).t().unwrap()).unwrap();
        let weights = candle_nn::ops::softmax_last_dim(&scores.broadcast_add(&mask).unwrap());
        let dense = weights.unwrap().matmul(&split(&value)).unwrap();
        let dense = dense.transpose(1, 2).unwrap().flatten_from(2).unwrap(); // [B,L,D]
        assert!(distance(&by_block, &dense) < 1e-5);
    }

    #[test]
    fn all_heads_in_turn_equal_each_head_in_parallel() {
        let (frames, tokens, width) = (5, 35, 12);
        let [query, key, value] = [1, 2, 3].map(|seed| noise(seed, &[2, tokens, width]));
        let heads = Heads { query: &query, key: &key, value: &value, heads: 3 };
        for attention in [Attention::Bidirectional, Attention::BlockCausal(2)] {
            let in_parallel = heads.attend_in_parallel(heads.spans(attention, frames).unwrap());
            let in_turn = heads.attend_in_turn(heads.spans(attention, frames).unwrap());
            assert!(distance(&in_parallel.unwrap(), &in_turn.unwrap()) < 1e-5);
        }
    }
}
