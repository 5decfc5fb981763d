//! Attention, full or block-causal, without a whole matrix of scores.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use wan_kernels::{Context, Matrix, MatrixMut, Precision, Span};

use crate::arithmetic::{Arithmetic, elements};
use crate::error::Result;
use crate::product::product;

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

    /// Query tokens of a video in runs with the same key tokens.
    pub(crate) fn token_spans(self, frames: usize, frame_tokens: usize) -> Vec<Span> {
        let spans = self.spans(frames).into_iter().map(|(queries, keys)| Span {
            queries: queries.start * frame_tokens..queries.end * frame_tokens,
            keys: 0..keys * frame_tokens,
        });
        spans.collect()
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
/// Queries are already multiplied by the softmax scale. Scores and softmax are f32 for any dtype.
pub(crate) struct Heads<'a> {
    pub(crate) query: &'a Tensor,
    pub(crate) key: &'a Tensor,
    pub(crate) value: &'a Tensor,
    pub(crate) heads: usize,
}

impl Heads<'_> {
    /// Self-attention of a video of `frames` frames on a GPU, `[B,L,D]`.
    pub(crate) fn attend_frames_on_device(
        &self,
        attention: Attention,
        frames: usize,
    ) -> Result<Tensor> {
        let frame_tokens = self.query.dim(1)? / frames;
        self.attend_in_turn(attention.token_spans(frames, frame_tokens))
    }

    /// Attention of every query to every key, `[B,Lq,D]`.
    pub(crate) fn attend_all(&self, arithmetic: &Arithmetic) -> Result<Tensor> {
        match self.query.device().is_cpu() {
            true => self.attend_on_cpu(arithmetic.context(), &[self.all()?]),
            false => self.attend_all_on_device(),
        }
    }

    /// [`attend_all`](Self::attend_all) on a GPU.
    pub(crate) fn attend_all_on_device(&self) -> Result<Tensor> {
        self.attend_in_turn(vec![self.all()?])
    }

    /// Every query and every key.
    fn all(&self) -> Result<Span> {
        Ok(Span { queries: 0..self.query.dim(1)?, keys: 0..self.key.dim(1)? })
    }

    /// The kernels' attention. What is no bf16 is attended to in f32.
    fn attend_on_cpu(&self, context: Context, spans: &[Span]) -> Result<Tensor> {
        let (batch, tokens, width) = self.query.dims3()?;
        let precision = match self.query.dtype() {
            DType::BF16 => Precision::Bf16,
            _ => Precision::F32,
        };
        let dtype = crate::arithmetic::dtype(precision);
        let own = |x: &Tensor| x.to_dtype(dtype)?.contiguous();
        let given = [own(self.query)?, own(self.key)?, own(self.value)?];
        let given = given.each_ref().map(Tensor::storage_and_layout);
        let matrix = |number: usize| -> Result<Matrix> {
            let (storage, layout) = &given[number];
            let (batch, tokens, width) = layout.shape().dims3()?;
            Ok(Matrix::dense(elements(storage, layout)?, [batch * tokens, width]))
        };
        let given = [matrix(0)?, matrix(1)?, matrix(2)?];
        let attention = wan_kernels::Attention { batch, heads: self.heads, scale: 1., precision };
        let (shape, rows) = ((batch, tokens, width), [batch * tokens, width]);
        let attended = match precision {
            Precision::F32 => {
                let mut out = vec![0f32; batch * tokens * width];
                let to = MatrixMut::dense(out.as_mut_slice(), rows);
                wan_kernels::attend(context, attention, given, spans, to);
                Tensor::from_vec(out, shape, &Device::Cpu)?
            }
            Precision::Bf16 => {
                let mut out = vec![bf16::ZERO; batch * tokens * width];
                let to = MatrixMut::dense(out.as_mut_slice(), rows);
                wan_kernels::attend(context, attention, given, spans, to);
                Tensor::from_vec(out, shape, &Device::Cpu)?
            }
        };
        Ok(attended.to_dtype(self.query.dtype())?)
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
            let keys = span.keys.end;
            let (key, value) = (key.narrow(2, 0, keys)?, value.narrow(2, 0, keys)?);
            let scores = product(&query, &key.transpose(2, 3)?)?; // [B,H,l,keys]
            let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(value.dtype())?;
            let attended = product(&weights, &value)?.transpose(1, 2)?; // [B,l,H,d]
            output.slice_set(&attended.flatten_from(2)?.contiguous()?, 1, span.queries.start)?;
        }
        Ok(output)
    }
}

/// Cuts a span into parts of so many scores at most.
fn chunks(span: Span, scores_max: usize) -> impl Iterator<Item = Span> {
    let Span { queries, keys } = span;
    let (rows, end) = ((scores_max / keys.len().max(1)).max(16), queries.end);
    queries
        .step_by(rows)
        .map(move |start| Span { queries: start..(start + rows).min(end), keys: keys.clone() })
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
        let span = Span { queries: 3..50, keys: 0..1000 };
        let cut: Vec<_> = chunks(span, 20_000).map(|s| s.queries).collect();
        assert_eq!(cut, [3..23, 23..43, 43..50]);
    }

    #[test]
    fn block_causal_equals_a_dense_mask() {
        let (frames, frame_tokens, heads, head_dim) = (5, 3, 2, 6);
        let tokens = frames * frame_tokens;
        let [query, key, value] = [1, 2, 3].map(|seed| noise(seed, &[2, tokens, heads * head_dim]));
        let attention = Attention::BlockCausal(2);
        let by_block = Heads { query: &query, key: &key, value: &value, heads };
        let spans = attention.token_spans(frames, frame_tokens);
        let by_block = by_block.attend_on_cpu(Arithmetic::default().context(), &spans).unwrap();

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
    fn what_a_gpu_computes_equals_the_kernels() {
        let (frames, tokens, width) = (5, 35, 12);
        let [query, key, value] = [1, 2, 3].map(|seed| noise(seed, &[2, tokens, width]));
        let heads = Heads { query: &query, key: &key, value: &value, heads: 3 };
        for attention in [Attention::Bidirectional, Attention::BlockCausal(2)] {
            let spans = attention.token_spans(frames, tokens / frames);
            let by_kernels = heads.attend_on_cpu(Arithmetic::default().context(), &spans);
            let in_turn = heads.attend_frames_on_device(attention, frames);
            assert!(distance(&by_kernels.unwrap(), &in_turn.unwrap()) < 1e-5);
        }
    }
}
