//! Operations on rows of tensors for which candle has no fused or no accurate form.
//!
//! candle runs elementwise operations one by one on one thread, and its layer norm computes the
//! variance as `E[x^2] - E[x]^2` in f32, which loses three digits where the mean is large. For f32
//! on the CPU, each function here is one pass of the kernels over the rows on all threads. For other
//! formats and devices it is the same formula in candle's operations.

use candle_core::{DType, Device, Result, Tensor};
use wan_kernels::{Matrix, MatrixMut};

use crate::arithmetic::numbers;

mod modulation;
mod norm;
mod pointwise;

pub(crate) use modulation::{Entries, add_gated, modulated_norm};
pub(crate) use norm::layer_norm;
pub(crate) use pointwise::{add, gelu};

pub(crate) fn fits(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// A tensor of the shape of `x` on the CPU; `fill` gets the numbers of `x` as rows of its last axis,
/// and those of the result.
fn of_rows(x: &Tensor, fill: impl FnOnce(Matrix, MatrixMut) -> Result<()>) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = x.dims().last().copied().unwrap_or(1);
    let shape = [x.elem_count().checked_div(width).unwrap_or(0), width];
    let mut out = vec![0f32; x.elem_count()];
    let (storage, layout) = x.storage_and_layout();
    let rows = Matrix::dense(numbers(&storage, layout)?, shape);
    fill(rows, MatrixMut::dense(out.as_mut_slice(), shape))?;
    Tensor::from_vec(out, x.dims(), &Device::Cpu)
}

#[cfg(test)]
mod tests;
