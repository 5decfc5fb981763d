//! Keys and values of text and image: they depend on neither latents nor timestep.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use wan_kernels::Matrix;

use super::Block;
use crate::arithmetic::{Arithmetic, numbers, precision};
use crate::config::WanConfig;
use crate::error::Result;
use crate::linear::{Linear, linear};
use crate::rms_norm::{RmsNorm, rms_norm};
use crate::weights::Scope;

/// Keys (normed) and values of one cross-attention.
#[derive(Clone, Debug)]
pub(super) enum KeyValue {
    /// Packed for attention on the CPU, one for each video.
    Packed(Arc<[wan_kernels::KeyValue]>),
    /// `[B,T,D]`, on a GPU.
    OnDevice { key: Tensor, value: Tensor },
}

/// Keys and values of one block's cross-attention: of the text, and of the image if the model takes
/// image tokens.
#[derive(Clone, Debug)]
pub(crate) struct ContextKeyValue {
    pub(super) text: KeyValue,
    pub(super) image: Option<KeyValue>,
}

impl Block {
    /// Keys and values of text and image tokens `[B,T,D]`.
    pub(crate) fn key_values(
        &self,
        text: &Tensor,
        image: Option<&Tensor>,
    ) -> Result<ContextKeyValue> {
        let image = match (&self.added, image) {
            (Some(added), Some(image)) => Some(added.key_value(image)?),
            _ => None,
        };
        let text = (self.attn2.key(text)?, self.attn2.to_v.forward(text)?);
        let keep = |(key, value): (Tensor, Tensor)| -> Result<KeyValue> {
            let compute = self.numerics.compute;
            match key.device().is_cpu() {
                true => packed(&self.arithmetic, (self.attn2.heads, compute), &key, &value),
                false => {
                    let (key, value) = (key.to_dtype(compute)?, value.to_dtype(compute)?);
                    Ok(KeyValue::OnDevice { key, value })
                }
            }
        };
        Ok(ContextKeyValue { text: keep(text)?, image: image.map(keep).transpose()? })
    }
}

/// Packs keys and values `[B,T,D]`, f32.
fn packed(
    arithmetic: &Arithmetic,
    (heads, compute): (usize, DType),
    key: &Tensor,
    value: &Tensor,
) -> Result<KeyValue> {
    let (batch, tokens, width) = key.dims3()?;
    let precision = precision(compute);
    let attention = wan_kernels::Attention { batch: 1, heads, scale: 1., precision };
    let (key, value) = (key.contiguous()?, value.contiguous()?);
    let (key, value) = (key.storage_and_layout(), value.storage_and_layout());
    let (key, value) = (numbers(&key.0, key.1)?, numbers(&value.0, value.1)?);
    let of_video = |video: usize| {
        let own = video * tokens * width..(video + 1) * tokens * width;
        let given = [&key[own.clone()], &value[own]];
        let given = given.map(|numbers| Matrix::dense(numbers, [tokens, width]));
        wan_kernels::KeyValue::pack(arithmetic.kernels(), attention, given)
    };
    Ok(KeyValue::Packed((0..batch).map(of_video).collect()))
}

/// The projections of image tokens to keys and values.
pub(super) struct AddedProjections {
    add_k_proj: Linear,
    add_v_proj: Linear,
    norm_added_k: RmsNorm,
}

impl AddedProjections {
    /// `None` for a model without image tokens.
    pub(super) fn load(config: &WanConfig, scope: Scope) -> Result<Option<Self>> {
        let Some(width) = config.added_kv_proj_dim else { return Ok(None) };
        let (dim, wide) = (config.dim(), scope.to_dtype(DType::F32));
        Ok(Some(Self {
            add_k_proj: linear(width, dim, scope.pp("add_k_proj"))?,
            add_v_proj: linear(width, dim, scope.pp("add_v_proj"))?,
            norm_added_k: rms_norm(dim, config.eps, &wide.pp("norm_added_k"))?,
        }))
    }

    fn key_value(&self, image: &Tensor) -> Result<(Tensor, Tensor)> {
        let key = self.norm_added_k.forward(&self.add_k_proj.forward(image)?)?;
        Ok((key, self.add_v_proj.forward(image)?))
    }
}
