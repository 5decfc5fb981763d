//! Activations, bias and sum.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, InplaceOp1, InplaceOp2, Layout, Result, Shape, Tensor,
};

use super::{GRAIN, each_row, each_row_in_place, exp, fits, slice};

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
        let x = slice(x, layout)?;
        let out = each_row(x.len(), GRAIN, |row, out| {
            for (out, x) in out.iter_mut().zip(&x[row * GRAIN..]) {
                let erf = candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2);
                *out = 0.5 * x * (1. + erf);
            }
        });
        Ok((out, layout.shape().clone()))
    }
}

/// GELU in its tanh form, `x / (1 + exp(-2u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, in
/// place.
pub(crate) fn gelu_tanh(x: Tensor) -> Result<Tensor> {
    if !fits(&x) {
        return x.gelu();
    }
    x.inplace_op1(&GeluTanh)?;
    Ok(x)
}

struct GeluTanh;

impl InplaceOp1 for GeluTanh {
    fn name(&self) -> &'static str {
        "gelu_tanh"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
        each_row_in_place(x, layout, GRAIN, |row| {
            for value in row {
                let x = *value;
                let twice_u = TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
                *value = x / (1. + exp(-twice_u));
            }
        })
    }
}

/// Adds `bias [D]` to every row of `x [N,D]`, in place.
pub(crate) fn add_bias(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !fits(&x) {
        return x.broadcast_add(bias);
    }
    x.inplace_op2(bias, &AddBias)?;
    Ok(x)
}

struct AddBias;

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<()> {
        let bias = slice(bias, bias_layout)?;
        each_row_in_place(x, layout, bias.len(), |row| {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        })
    }
}

/// Adds two tensors of one shape. candle's addition runs large tensors on a second thread pool,
/// which competes with rayon's for the cores.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !fits(a) || a.dims() != b.dims() {
        return a + b;
    }
    a.contiguous()?.apply_op2_no_bwd(&b.contiguous()?, &Add)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(a, layout)?, slice(b, b_layout)?);
        let out = each_row(a.len(), GRAIN, |row, out| {
            let terms = a[row * GRAIN..].iter().zip(&b[row * GRAIN..]);
            out.iter_mut().zip(terms).for_each(|(out, (a, b))| *out = a + b);
        });
        Ok((out, layout.shape().clone()))
    }
}
