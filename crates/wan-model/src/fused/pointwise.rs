//! Exact GELU and sum.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;
use wan_kernels::{Kernels, Matrix};

use super::{fits, of_rows};
use crate::arithmetic::numbers;

/// Numbers of a task.
const GRAIN: usize = 1 << 13;

/// The exact GELU, `x/2 (1 + erf(x / sqrt 2))`.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    if fits(x) { x.contiguous()?.apply_op1_no_bwd(&Gelu) } else { x.gelu_erf() }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let CpuStorage::F32(x) = x else { candle_core::bail!("f32 numbers") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("contiguous numbers")
        };
        let mut out = x[start..end].to_vec();
        out.par_chunks_mut(GRAIN).flatten().for_each(|x| {
            let erf = candle_core::cpu::erf::erf_f32(*x * std::f32::consts::FRAC_1_SQRT_2);
            *x = 0.5 * *x * (1. + erf);
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// Adds two tensors of one shape. candle's addition runs large tensors on a second thread pool,
/// which competes with rayon's for the cores.
pub(crate) fn add(kernels: Kernels, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !fits(a) || !fits(b) || a.dims() != b.dims() {
        return a + b;
    }
    let b = b.contiguous()?;
    let (storage, layout) = b.storage_and_layout();
    let b: &Storage = &storage;
    let b = numbers(b, layout)?;
    of_rows(a, |a, out| {
        let b = Matrix::dense(b, [a.rows(), a.columns()]);
        wan_kernels::add_gated(kernels, a, b, None, out);
        Ok(())
    })
}
