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

use candle_core::{Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::with_tracing::RmsNorm;

use crate::attention::{Attention, Heads};
use crate::config::WanConfig;
use crate::error::Result;
use crate::fused;
use crate::linear::{Linear, linear};
use crate::observer::{BlockPoint, Observer, Point};
use crate::rope::{Grid, Rope};
use crate::rows::Rows;

/// What a block reads beside the hidden state.
pub(crate) struct Surroundings<'a> {
    pub(crate) e0: &'a Rows,
    pub(crate) rope: &'a Rope,
    pub(crate) grid: Grid,
    pub(crate) attention: Attention,
}

/// Keys (normed) and values `[B,T,D]` of one cross-attention.
#[derive(Clone, Debug)]
pub(crate) struct KeyValue {
    key: Tensor,
    value: Tensor,
}

/// What one block's cross-attention reads: the text, and the image where the model takes one.
#[derive(Clone, Debug)]
pub(crate) struct ContextKeyValue {
    text: KeyValue,
    image: Option<KeyValue>,
}

/// A transformer block.
pub(crate) struct Block {
    number: usize,
    eps: f64,
    scale_shift_table: Tensor,
    attn1: AttentionLayer,
    norm2: Option<(Tensor, Tensor)>,
    attn2: AttentionLayer,
    added: Option<AddedProjections>,
    ffn_in: Linear,
    ffn_out: Linear,
}

impl Block {
    pub(crate) fn load(config: &WanConfig, number: usize, vb: VarBuilder) -> Result<Self> {
        let dim = config.dim();
        let norm2 = vb.pp("norm2");
        let norm2 = config
            .cross_attn_norm
            .then(|| Ok::<_, crate::Error>((norm2.get(dim, "weight")?, norm2.get(dim, "bias")?)));
        let ffn = vb.pp("ffn").pp("net");
        Ok(Self {
            number,
            eps: config.eps,
            scale_shift_table: vb.get((1, 6, dim), "scale_shift_table")?,
            attn1: AttentionLayer::load(config, vb.pp("attn1"))?,
            norm2: norm2.transpose()?,
            added: AddedProjections::load(config, vb.pp("attn2"))?,
            attn2: AttentionLayer::load(config, vb.pp("attn2"))?,
            ffn_in: linear(dim, config.ffn_dim, ffn.pp(0).pp("proj"))?,
            ffn_out: linear(config.ffn_dim, dim, ffn.pp(2))?,
        })
    }

    /// Keys and values of text and image tokens `[B,T,D]`; they depend on the condition alone.
    pub(crate) fn key_values(
        &self,
        text: &Tensor,
        image: Option<&Tensor>,
    ) -> Result<ContextKeyValue> {
        let image = match (&self.added, image) {
            (Some(added), Some(image)) => Some(added.key_value(image)?),
            _ => None,
        };
        let (key, value) = (self.attn2.key(text)?, self.attn2.to_v.forward(text)?);
        Ok(ContextKeyValue { text: KeyValue { key, value }, image })
    }

    /// `[B,L,D]` to `[B,L,D]`.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        surroundings: &Surroundings,
        context: &ContextKeyValue,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let mut see = |point, tensor: &Tensor| {
            observer.see(Point::Block(self.number, point), tensor);
        };
        let e0 = surroundings.e0;
        let table = e0.with_rows(e0.rows().broadcast_add(&self.scale_shift_table)?)?;

        let normed = fused::layer_norm(hidden, None, self.eps)?;
        see(BlockPoint::Norm1, &normed);
        let modulated = fused::modulate(&normed, &table, 0, 1)?;
        let attended = self.attn1.attend_to_self(&modulated, surroundings, &mut see)?;
        see(BlockPoint::Attn1, &attended);
        let hidden = fused::add_gated(hidden, &attended, &table, 2)?;

        let normed = match &self.norm2 {
            Some((weight, bias)) => fused::layer_norm(&hidden, Some((weight, bias)), self.eps)?,
            None => hidden.clone(),
        };
        see(BlockPoint::Norm2, &normed);
        let attended = self.attn2.attend_to_context(&normed, context)?;
        see(BlockPoint::Attn2, &attended);
        let hidden = fused::add(&hidden, &attended)?;

        let normed = fused::layer_norm(&hidden, None, self.eps)?;
        let modulated = fused::modulate(&normed, &table, 3, 4)?;
        let inner = fused::gelu_tanh(&self.ffn_in.forward(&modulated)?)?;
        let fed = self.ffn_out.forward(&inner)?;
        see(BlockPoint::Ffn, &fed);
        let hidden = fused::add_gated(&hidden, &fed, &table, 5)?;
        see(BlockPoint::Out, &hidden);
        Ok(hidden)
    }
}

/// Projections of an attention; queries and keys are normed over all heads jointly.
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
    fn load(config: &WanConfig, vb: VarBuilder) -> Result<Self> {
        let dim = config.dim();
        Ok(Self {
            to_q: linear(dim, dim, vb.pp("to_q"))?,
            to_k: linear(dim, dim, vb.pp("to_k"))?,
            to_v: linear(dim, dim, vb.pp("to_v"))?,
            to_out: linear(dim, dim, vb.pp("to_out").pp(0))?,
            norm_q: RmsNorm::new(dim, config.eps, vb.pp("norm_q"))?,
            norm_k: RmsNorm::new(dim, config.eps, vb.pp("norm_k"))?,
            heads: config.num_attention_heads,
            head_dim: config.attention_head_dim,
        })
    }

    fn query(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.norm_q.forward(&self.to_q.forward(x)?)?)
    }

    fn key(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.norm_k.forward(&self.to_k.forward(x)?)?)
    }

    fn softmax_scale(&self) -> f64 {
        1. / (self.head_dim as f64).sqrt()
    }

    fn attend_to_self(
        &self,
        x: &Tensor,
        surroundings: &Surroundings,
        see: &mut dyn FnMut(BlockPoint, &Tensor),
    ) -> Result<Tensor> {
        let (query, key, value) = (self.query(x)?, self.key(x)?, self.to_v.forward(x)?);
        see(BlockPoint::Attn1Query, &query);
        see(BlockPoint::Attn1Key, &key);
        let query = surroundings.rope.rotate(&query, self.softmax_scale())?;
        let key = surroundings.rope.rotate(&key, 1.)?;
        let heads = Heads { query: &query, key: &key, value: &value, heads: self.heads };
        let attended = heads.attend_frames(surroundings.attention, surroundings.grid.frames)?;
        Ok(self.to_out.forward(&attended)?)
    }

    /// One attention over the text and one over the image share the queries; their sum is
    /// projected.
    fn attend_to_context(&self, x: &Tensor, context: &ContextKeyValue) -> Result<Tensor> {
        let query = (self.query(x)? * self.softmax_scale())?;
        let attend = |KeyValue { key, value }: &KeyValue| {
            Heads { query: &query, key, value, heads: self.heads }.attend_all()
        };
        let attended = attend(&context.text)?;
        let attended = match &context.image {
            Some(image) => fused::add(&attended, &attend(image)?)?,
            None => attended,
        };
        Ok(self.to_out.forward(&attended)?)
    }
}

/// Keys and values of image tokens, beside those of the text.
struct AddedProjections {
    add_k_proj: Linear,
    add_v_proj: Linear,
    norm_added_k: RmsNorm,
}

impl AddedProjections {
    /// Nothing where the model takes no image tokens.
    fn load(config: &WanConfig, vb: VarBuilder) -> Result<Option<Self>> {
        let Some(width) = config.added_kv_proj_dim else { return Ok(None) };
        let dim = config.dim();
        Ok(Some(Self {
            add_k_proj: linear(width, dim, vb.pp("add_k_proj"))?,
            add_v_proj: linear(width, dim, vb.pp("add_v_proj"))?,
            norm_added_k: RmsNorm::new(dim, config.eps, vb.pp("norm_added_k"))?,
        }))
    }

    fn key_value(&self, image: &Tensor) -> Result<KeyValue> {
        let key = self.norm_added_k.forward(&self.add_k_proj.forward(image)?)?;
        Ok(KeyValue { key, value: self.add_v_proj.forward(image)? })
    }
}
