//! Layer norm and softmax over the last axis.
#![allow(clippy::cast_possible_truncation, reason = "epsilons, from f64")]

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, D, DType, InplaceOp1, Layout, Result, Shape, Tensor,
};

use super::{each_row, each_row_in_place, exp, fits, slice, sum};

/// Layer norm over the last axis in f32, `x` of any shape; `affine` is weight and bias `[D]`.
pub(crate) fn layer_norm(
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Tensor> {
    if fits(x) {
        let x = x.contiguous()?;
        let op = LayerNorm(eps as f32);
        return match affine {
            Some((weight, bias)) => x.apply_op3_no_bwd(weight, bias, &op),
            None => x.apply_op1_no_bwd(&op),
        };
    }
    let wide = x.to_dtype(DType::F32)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let mut normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    if let Some((weight, bias)) = affine {
        let [weight, bias] = [weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?];
        normed = normed.broadcast_mul(&weight)?.broadcast_add(&bias)?;
    }
    normed.to_dtype(x.dtype())
}

struct LayerNorm(f32);

impl LayerNorm {
    fn row(&self, x: &[f32], out: &mut [f32]) {
        let count = x.len() as f32;
        let mean = sum(x, |v| v) / count;
        let variance = sum(x, |v| (v - mean) * (v - mean)) / count;
        let scale = (variance + self.0).sqrt().recip();
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - mean) * scale;
        }
    }
}

impl CustomOp1 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let width = layout.dims()[layout.dims().len() - 1];
        let out = each_row(x.len(), width, |row, out| self.row(&x[row * width..][..width], out));
        Ok((out, layout.shape().clone()))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let (weight, bias) = (slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let width = weight.len();
        let out = each_row(x.len(), width, |row, out| {
            self.row(&x[row * width..][..width], out);
            for ((out, weight), bias) in out.iter_mut().zip(weight).zip(bias) {
                *out = *out * weight + bias;
            }
        });
        Ok((out, layout.shape().clone()))
    }
}

/// Softmax over the last axis, in place.
pub(crate) fn softmax(scores: Tensor) -> Result<Tensor> {
    if !fits(&scores) {
        return candle_nn::ops::softmax_last_dim(&scores);
    }
    scores.inplace_op1(&Softmax)?;
    Ok(scores)
}

struct Softmax;

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, scores: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = layout.dims()[layout.dims().len() - 1];
        each_row_in_place(scores, layout, width, |row| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|score| *score = exp(*score - largest));
            let scale = sum(row, |weight| weight).recip();
            row.iter_mut().for_each(|weight| *weight *= scale);
        })
    }
}
