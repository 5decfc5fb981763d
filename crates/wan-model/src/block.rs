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
//! output, and the outgoing stream. All other tensors are f32 and as long as one run of tokens (see
//! `chunks`). `docs/memory.md` has the sum.

use std::ops::Range;

use crate::weights::Scope;
use candle_core::{DType, Module, Tensor};
use candle_transformers::models::with_tracing::RmsNorm;

use crate::attention::{Attention, Heads};
use crate::chunks::{Assembly, chunks};
use crate::config::WanConfig;
use crate::error::Result;
use crate::fused;
use crate::linear::{Linear, linear};
use crate::numerics::Numerics;
use crate::observer::{BlockPoint, Observer};
use crate::rms_norm::rms_norm;
use crate::rope::{Grid, Rope};
use crate::rows::Rows;
use crate::views::Views;

/// The inputs of a block beside the hidden state.
pub(crate) struct BlockInputs<'a> {
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

/// Keys and values of one block's cross-attention: of the text, and of the image if the model takes
/// image tokens.
#[derive(Clone, Debug)]
pub(crate) struct ContextKeyValue {
    text: KeyValue,
    image: Option<KeyValue>,
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
        })
    }

    /// Keys and values of text and image tokens `[B,T,D]`. They do not depend on latents or
    /// timestep.
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
        let narrow = |KeyValue { key, value }: KeyValue| -> Result<KeyValue> {
            let dtype = self.numerics.compute;
            Ok(KeyValue { key: key.to_dtype(dtype)?, value: value.to_dtype(dtype)? })
        };
        Ok(ContextKeyValue {
            text: narrow(KeyValue { key, value })?,
            image: image.map(narrow).transpose()?,
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
        let (batch, tokens, _) = hidden.dims3()?;
        let mut views = Views::new(self.number, tokens, observer);
        let attended = self.attend_to_self(hidden, &table, inputs, &mut views)?;
        let mut out = Assembly::new(tokens);
        for chunk in chunks(hidden.device(), batch, tokens) {
            let table = table.of_tokens(&chunk, tokens)?;
            let (hidden, attended) = (run(hidden, &chunk)?, run(&attended, &chunk)?);
            let mut see = |point, tensor: &Tensor| views.see(point, chunk.start, tensor);
            let hidden = self.add_attention(&hidden, &attended, &table, &mut see)?;
            let hidden = self.add_context(&hidden, context, &mut see)?;
            let hidden = self.add_fed_forward(&hidden, &table, &mut see)?;
            let hidden = hidden.to_dtype(self.numerics.stream_dtype())?;
            see(BlockPoint::Out, &hidden)?;
            out.put(chunk.start, hidden)?;
        }
        views.show()?;
        out.finish()
    }

    /// Self-attention before its output projection, `[B,L,D]`. Queries, keys and values are dropped
    /// on return.
    fn attend_to_self(
        &self,
        hidden: &Tensor,
        table: &Rows,
        inputs: &BlockInputs,
        views: &mut Views,
    ) -> Result<Tensor> {
        let (batch, tokens, _) = hidden.dims3()?;
        let attn1 = &self.attn1;
        let [mut query, mut key, mut value] = [(); 3].map(|()| Assembly::new(tokens));
        for chunk in chunks(hidden.device(), batch, tokens) {
            let mut see = |point, tensor: &Tensor| views.see(point, chunk.start, tensor);
            let rope = inputs.rope.of_tokens(&chunk)?;
            let normed = fused::layer_norm(&run(hidden, &chunk)?, None, self.eps)?;
            see(BlockPoint::Norm1, &normed)?;
            let x = fused::modulate(&normed, &table.of_tokens(&chunk, tokens)?, 0, 1)?;
            let (q, k) = (attn1.query(&x)?, attn1.key(&x)?);
            see(BlockPoint::Attn1Query, &q)?;
            see(BlockPoint::Attn1Key, &k)?;
            let dtype = self.numerics.compute;
            let q = rope.rotate(&q, attn1.softmax_scale())?;
            query.put(chunk.start, q.to_dtype(dtype)?)?;
            key.put(chunk.start, rope.rotate(&k, 1.)?.to_dtype(dtype)?)?;
            value.put(chunk.start, attn1.to_v.forward(&x)?.to_dtype(dtype)?)?;
        }
        let (query, key, value) = (query.finish()?, key.finish()?, value.finish()?);
        let heads = Heads { query: &query, key: &key, value: &value, heads: attn1.heads };
        heads.attend_frames(inputs.attention, inputs.grid.frames)
    }

    /// `hidden + gate_1 W_o attended` for a run of tokens.
    fn add_attention(
        &self,
        hidden: &Tensor,
        attended: &Tensor,
        table: &Rows,
        see: See,
    ) -> Result<Tensor> {
        let attended = self.attn1.to_out.forward(attended)?;
        see(BlockPoint::Attn1, &attended)?;
        Ok(fused::add_gated(hidden, &attended, table, 2)?)
    }

    /// Adds the cross-attention of a run of tokens to text and image.
    fn add_context(&self, hidden: &Tensor, context: &ContextKeyValue, see: See) -> Result<Tensor> {
        let normed = match &self.norm2 {
            Some((weight, bias)) => fused::layer_norm(hidden, Some((weight, bias)), self.eps)?,
            None => hidden.clone(),
        };
        see(BlockPoint::Norm2, &normed)?;
        let attended = self.attn2.attend_to_context(&normed, context)?;
        see(BlockPoint::Attn2, &attended)?;
        Ok(fused::add(hidden, &attended)?)
    }

    /// Adds the gated feed-forward of a run of tokens.
    fn add_fed_forward(&self, hidden: &Tensor, table: &Rows, see: See) -> Result<Tensor> {
        let normed = fused::layer_norm(hidden, None, self.eps)?;
        let modulated = fused::modulate(&normed, table, 3, 4)?;
        drop(normed);
        let inner = fused::gelu_tanh(self.ffn_in.forward(&modulated)?)?;
        let fed = self.ffn_out.forward(&inner)?;
        see(BlockPoint::Ffn, &fed)?;
        Ok(fused::add_gated(hidden, &fed, table, 5)?)
    }
}

/// Receives the intermediate tensors of a run of tokens.
type See<'a> = &'a mut dyn FnMut(BlockPoint, &Tensor) -> Result<()>;

/// A run of tokens of `[B,L,D]`, in f32.
fn run(tensor: &Tensor, tokens: &Range<usize>) -> Result<Tensor> {
    Ok(tensor.narrow(1, tokens.start, tokens.len())?.to_dtype(DType::F32)?)
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
        Ok(self.norm_q.forward(&self.to_q.forward(x)?)?)
    }

    fn key(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.norm_k.forward(&self.to_k.forward(x)?)?)
    }

    fn softmax_scale(&self) -> f64 {
        1. / (self.head_dim as f64).sqrt()
    }

    /// One attention over the text and one over the image share the queries; their sum is
    /// projected.
    fn attend_to_context(&self, x: &Tensor, context: &ContextKeyValue) -> Result<Tensor> {
        let query = (self.query(x)? * self.softmax_scale())?;
        let query = query.to_dtype(context.text.key.dtype())?;
        let attend = |KeyValue { key, value }: &KeyValue| {
            Heads { query: &query, key, value, heads: self.heads }.attend_all()
        };
        let attended = attend(&context.text)?;
        let attended = match &context.image {
            Some(image) => fused::add(&attended, &attend(image)?)?,
            None => attended,
        };
        self.to_out.forward(&attended.to_dtype(DType::F32)?)
    }
}

/// The projections of image tokens to keys and values.
struct AddedProjections {
    add_k_proj: Linear,
    add_v_proj: Linear,
    norm_added_k: RmsNorm,
}

impl AddedProjections {
    /// `None` for a model without image tokens.
    fn load(config: &WanConfig, scope: Scope) -> Result<Option<Self>> {
        let Some(width) = config.added_kv_proj_dim else { return Ok(None) };
        let dim = config.dim();
        Ok(Some(Self {
            add_k_proj: linear(width, dim, scope.pp("add_k_proj"))?,
            add_v_proj: linear(width, dim, scope.pp("add_v_proj"))?,
            norm_added_k: rms_norm(
                dim,
                config.eps,
                &scope.to_dtype(DType::F32).pp("norm_added_k"),
            )?,
        }))
    }

    fn key_value(&self, image: &Tensor) -> Result<KeyValue> {
        let key = self.norm_added_k.forward(&self.add_k_proj.forward(image)?)?;
        Ok(KeyValue { key, value: self.add_v_proj.forward(image)? })
    }
}
