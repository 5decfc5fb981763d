//! One transformer block: self-attention, cross-attention, feed-forward.
//!
//! ```text
//! m = scale_shift_table + e0                       shift, scale, gate; shift, scale, gate
//! x = x + gate_1 * attn1(LN(x) (1 + scale_1) + shift_1)
//! x = x + attn2(LN_affine(x), text, image)         two attentions with one query, summed
//! x = x + gate_2 * ffn(LN(x) (1 + scale_2) + shift_2)
//! ```
//!
//! Source: diffusers 0.42.1 `WanTransformerBlock`, whose names are kept.
//!
//! Whole tensors `[B,L,D]` are the incoming stream, self-attention's queries, keys, values and
//! output, and the outgoing stream. All others are as long as one run of tokens (see `chunks`).
//! `docs/memory.md` has the sum. The CPU's way goes over buffers of the kernels' pool (`on_cpu`), a
//! GPU's over candle's tensors (`on_device`).

use crate::weights::Scope;
use candle_core::{DType, Tensor};

use crate::attention::Attention;
use crate::config::WanConfig;
use crate::error::Result;
use crate::linear::{Linear, linear};
use crate::numerics::Numerics;
use crate::observer::Observer;
use crate::rms_norm::{RmsNorm, rms_norm};
use crate::rope::{Grid, Rope};
use crate::rows::Rows;

mod context;
mod on_cpu;
mod on_device;

pub(crate) use context::ContextKeyValue;
use context::{AddedProjections, KeyValue};

/// The inputs of a block beside the hidden state.
pub(crate) struct BlockInputs<'a> {
    pub(crate) e0: &'a Rows,
    pub(crate) rope: &'a Rope,
    pub(crate) grid: Grid,
    pub(crate) attention: Attention,
}

/// A transformer block.
pub(crate) struct Block {
    number: usize,
    numerics: Numerics,
    eps: f64,
    scale_shift_table: Tensor,
    attn1: AttentionLayer,
    norm2: Option<(Tensor, Tensor)>,
    attn2: AttentionLayer,
    added: Option<AddedProjections>,
    ffn_in: Linear,
    ffn_out: Linear,
    arithmetic: crate::Arithmetic,
}

/// Components of the rows that modulate a block.
mod component {
    pub(super) const SHIFT_1: usize = 0;
    pub(super) const SCALE_1: usize = 1;
    pub(super) const GATE_1: usize = 2;
    pub(super) const SHIFT_2: usize = 3;
    pub(super) const SCALE_2: usize = 4;
    pub(super) const GATE_2: usize = 5;
}

impl Block {
    /// Loads block `number` from `scope`. The projections of text and image to keys and values come
    /// from `context`: the same weights, perhaps with another turn.
    pub(crate) fn load(
        config: &WanConfig,
        number: usize,
        numerics: Numerics,
        (scope, context): (Scope, Scope),
    ) -> Result<Self> {
        let dim = config.dim();
        let context = context.to_dtype(numerics.compute).pp("attn2");
        let (scope, wide) = (scope.to_dtype(numerics.compute), scope.to_dtype(DType::F32));
        let norm2 = wide.pp("norm2");
        let norm2 = config
            .cross_attn_norm
            .then(|| Ok::<_, crate::Error>((norm2.get(dim, "weight")?, norm2.get(dim, "bias")?)));
        let ffn = scope.pp("ffn").pp("net");
        Ok(Self {
            number,
            numerics,
            eps: config.eps,
            scale_shift_table: wide.get((1, 6, dim), "scale_shift_table")?,
            attn1: AttentionLayer::load(config, scope.pp("attn1"), scope.pp("attn1"))?,
            norm2: norm2.transpose()?,
            attn2: AttentionLayer::load(config, scope.pp("attn2"), context.clone())?,
            added: AddedProjections::load(config, context)?,
            ffn_in: linear(dim, config.ffn_dim, ffn.pp(0).pp("proj"))?,
            ffn_out: linear(config.ffn_dim, dim, ffn.pp(2))?,
            arithmetic: scope.arithmetic().clone(),
        })
    }

    /// `[B,L,D]` of any float dtype to `[B,L,D]` in the dtype of the residual stream.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        inputs: &BlockInputs,
        context: &ContextKeyValue,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let e0 = inputs.e0;
        let table = e0.with_rows(e0.rows().broadcast_add(&self.scale_shift_table)?)?;
        match hidden.device().is_cpu() {
            true => self.forward_on_cpu(hidden, &table, inputs, (context, observer)),
            false => self.forward_on_device(hidden, &table, inputs, (context, observer)),
        }
    }
}

/// The projections of an attention; queries and keys are normed over all heads jointly.
struct AttentionLayer {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: usize,
    head_dim: usize,
}

impl AttentionLayer {
    /// Keys and values come from `key_value`: the same weights, perhaps with another turn.
    fn load(config: &WanConfig, scope: Scope, key_value: Scope) -> Result<Self> {
        let (dim, wide) = (config.dim(), scope.to_dtype(DType::F32));
        Ok(Self {
            to_q: linear(dim, dim, scope.pp("to_q"))?,
            to_k: linear(dim, dim, key_value.pp("to_k"))?,
            to_v: linear(dim, dim, key_value.pp("to_v"))?,
            to_out: linear(dim, dim, scope.pp("to_out").pp(0))?,
            norm_q: rms_norm(dim, config.eps, &wide.pp("norm_q"))?,
            norm_k: rms_norm(dim, config.eps, &wide.pp("norm_k"))?,
            heads: config.num_attention_heads,
            head_dim: config.attention_head_dim,
        })
    }

    fn query(&self, x: &Tensor) -> Result<Tensor> {
        self.norm_q.forward(&self.to_q.forward(x)?)
    }

    fn key(&self, x: &Tensor) -> Result<Tensor> {
        self.norm_k.forward(&self.to_k.forward(x)?)
    }

    fn softmax_scale(&self) -> f64 {
        1. / (self.head_dim as f64).sqrt()
    }
}
