//! RMS norms.

use candle_core::{Device, Tensor};
use wan_kernels::{MatrixMut, Rotation, rms_norm as normed};

use crate::arithmetic::{Arithmetic, numbers};
use crate::error::Result;
use crate::weights::Scope;

/// `x / sqrt(mean(x^2) + eps) weight` over the last axis.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    /// `[D]`, f32.
    weight: Tensor,
    eps: f64,
    arithmetic: Arithmetic,
}

/// Loads the norm of this width.
pub(crate) fn rms_norm(width: usize, eps: f64, scope: &Scope) -> Result<RmsNorm> {
    let (weight, arithmetic) = (scope.get(width, "weight")?, scope.arithmetic().clone());
    Ok(RmsNorm { weight, eps, arithmetic })
}

impl RmsNorm {
    /// `[.., D]` to `[.., D]`, f32.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        #[allow(clippy::cast_possible_truncation, reason = "an epsilon, from f64")]
        if !x.device().is_cpu() {
            return Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32)?);
        }
        let width = self.weight.elem_count();
        let shape = [x.elem_count() / width.max(1), width];
        let flat = x.contiguous()?;
        let (storage, layout) = flat.storage_and_layout();
        let rows = wan_kernels::Matrix::dense(numbers(&storage, layout)?, shape);
        let mut out = vec![0f32; x.elem_count()];
        self.write(rows, (None, 1.), MatrixMut::dense(out.as_mut_slice(), shape))?;
        Ok(Tensor::from_vec(out, x.dims(), &Device::Cpu)?)
    }

    /// The norm on the CPU, over slices, then a rotation, then a factor.
    pub(crate) fn write(
        &self,
        x: wan_kernels::Matrix,
        (rotation, scale): (Option<Rotation>, f32),
        out: MatrixMut,
    ) -> Result<()> {
        let (storage, layout) = self.weight.storage_and_layout();
        let weight = numbers(&storage, layout)?;
        #[allow(clippy::cast_possible_truncation, reason = "an epsilon, from f64")]
        let eps = self.eps as f32;
        let norm = wan_kernels::RmsNorm { weight, eps, rotation, scale };
        normed(self.arithmetic.kernels(), x, norm, out);
        Ok(())
    }
}
