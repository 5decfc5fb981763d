//! Layer norm over the last axis.
#![allow(clippy::cast_possible_truncation, reason = "epsilons, from f64")]

use candle_core::{D, DType, Result, Tensor};
use wan_kernels::{Affine, Kernels};

use super::{fits, of_rows};
use crate::arithmetic::numbers;

/// Layer norm over the last axis in f32, `x` of any shape; `affine` is weight and bias `[D]`.
pub(crate) fn layer_norm(
    kernels: Kernels,
    x: &Tensor,
    affine: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Tensor> {
    if fits(x) {
        return of_rows(x, |x, out| {
            let Some((weight, bias)) = affine else {
                wan_kernels::layer_norm(kernels, x, eps as f32, Affine::None, out);
                return Ok(());
            };
            let (weight, bias) = (weight.storage_and_layout(), bias.storage_and_layout());
            let affine = Affine::Shared {
                weight: numbers(&weight.0, weight.1)?,
                bias: numbers(&bias.0, bias.1)?,
            };
            wan_kernels::layer_norm(kernels, x, eps as f32, affine, out);
            Ok(())
        });
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
