//! A block in candle's operations, on a GPU.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::component::{GATE_1, GATE_2, SCALE_1, SCALE_2, SHIFT_1, SHIFT_2};
use super::{AttentionLayer, Block, BlockInputs, ContextKeyValue, KeyValue};
use crate::attention::Heads;
use crate::chunks::{Assembly, chunks};
use crate::error::{Error, Result};
use crate::fused;
use crate::observer::{BlockPoint, Observer};
use crate::rows::Rows;
use crate::views::Views;
use wan_kernels::Activation;

impl Block {
    pub(super) fn forward_on_device(
        &self,
        hidden: &Tensor,
        table: &Rows,
        inputs: &BlockInputs,
        (context, observer): (&ContextKeyValue, &mut dyn Observer),
    ) -> Result<Tensor> {
        let (batch, tokens, _) = hidden.dims3()?;
        let mut views = Views::new(self.number, (batch, tokens), observer);
        let attended = self.attend_to_self(hidden, table, inputs, &mut views)?;
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
            let hidden = run(hidden, &chunk)?;
            see(BlockPoint::Norm1, &self.normed(&hidden, None)?)?;
            let table = table.of_tokens(&chunk, tokens)?;
            let x = self.modulated(&hidden, (&table, SHIFT_1, SCALE_1))?;
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
        heads.attend_frames_on_device(inputs.attention, inputs.grid.frames)
    }

    fn normed(&self, x: &Tensor, affine: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        Ok(fused::layer_norm(self.arithmetic.kernels(), x, affine, self.eps)?)
    }

    fn modulated(&self, x: &Tensor, by: (&Rows, usize, usize)) -> Result<Tensor> {
        Ok(fused::modulated_norm(self.arithmetic.kernels(), x, by, self.eps)?)
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
        Ok(fused::add_gated(hidden, &attended, table, GATE_1)?)
    }

    /// Adds the cross-attention of a run of tokens to text and image.
    fn add_context(&self, hidden: &Tensor, context: &ContextKeyValue, see: See) -> Result<Tensor> {
        let normed = match &self.norm2 {
            Some((weight, bias)) => self.normed(hidden, Some((weight, bias)))?,
            None => hidden.clone(),
        };
        see(BlockPoint::Norm2, &normed)?;
        let attended = self.attn2.attend_on_device(&normed, context)?;
        see(BlockPoint::Attn2, &attended)?;
        Ok((hidden + attended)?)
    }

    /// Adds the gated feed-forward of a run of tokens.
    fn add_fed_forward(&self, hidden: &Tensor, table: &Rows, see: See) -> Result<Tensor> {
        let modulated = self.modulated(hidden, (table, SHIFT_2, SCALE_2))?;
        let inner = self.ffn_in.forward_activated(&modulated, Activation::GeluTanh)?;
        let fed = self.ffn_out.forward(&inner)?;
        see(BlockPoint::Ffn, &fed)?;
        Ok(fused::add_gated(hidden, &fed, table, GATE_2)?)
    }
}

impl AttentionLayer {
    /// One attention over the text and one over the image share the queries; their sum is
    /// projected.
    fn attend_on_device(&self, x: &Tensor, context: &ContextKeyValue) -> Result<Tensor> {
        let query = (self.query(x)? * self.softmax_scale())?;
        let attend = |key_value: &KeyValue| {
            let KeyValue::OnDevice { key, value } = key_value else {
                return Err(Error::input("a context", "one made on this device", key_value));
            };
            let query = query.to_dtype(key.dtype())?;
            Heads { query: &query, key, value, heads: self.heads }.attend_all_on_device()
        };
        let attended = attend(&context.text)?;
        let attended = match &context.image {
            Some(image) => (attended + attend(image)?)?,
            None => attended,
        };
        self.to_out.forward(&attended.to_dtype(DType::F32)?)
    }
}

/// Receives the intermediate tensors of a run of tokens.
type See<'a> = &'a mut dyn FnMut(BlockPoint, &Tensor) -> Result<()>;

/// A run of tokens of `[B,L,D]`, in f32.
fn run(tensor: &Tensor, tokens: &Range<usize>) -> Result<Tensor> {
    Ok(tensor.narrow(1, tokens.start, tokens.len())?.to_dtype(DType::F32)?)
}
