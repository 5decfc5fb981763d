//! Row kernels that candle's CPU backend has no fused or no accurate form of.
//!
//! candle runs elementwise operations one by one on one thread, and its layer norm takes the
//! variance as `E[x^2] - E[x]^2` in f32, which loses three digits where the mean is large. Each
//! function here is one pass over the rows on all threads for f32 on the CPU; elsewhere it is
//! the same formula in candle's own operations.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, InplaceOp1, InplaceOp2, Layout, Result,
    Shape, Tensor, bail,
};
use rayon::prelude::*;

use crate::rows::Rows;

/// Fewest numbers worth a thread of their own.
const GRAIN: usize = 1 << 13;

/// Row number of each entry, by batch element.
type Index = Arc<[Vec<u32>]>;

pub(crate) fn fits(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), CpuStorage::F32(values)) => Ok(&values[start..end]),
        _ => bail!("fused kernels want contiguous f32, got {:?} {layout:?}", storage.dtype()),
    }
}

/// Applies `row(number, out)` to every row of `width` numbers, in parallel.
pub(crate) fn each_row(
    count: usize,
    width: usize,
    row: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> CpuStorage {
    let mut out = vec![0f32; count];
    let rows_min = (GRAIN / width.max(1)).max(1);
    out.par_chunks_mut(width)
        .with_min_len(rows_min)
        .enumerate()
        .for_each(|(number, out)| row(number, out));
    CpuStorage::F32(out)
}

/// Changes every row of `width` numbers, in parallel.
fn each_row_in_place(
    storage: &mut CpuStorage,
    layout: &Layout,
    width: usize,
    row: impl Fn(&mut [f32]) + Sync + Send,
) -> Result<()> {
    let (Some((start, end)), CpuStorage::F32(values)) = (layout.contiguous_offsets(), storage)
    else {
        bail!("fused kernels want contiguous f32, got {layout:?}");
    };
    let rows_min = (GRAIN / width.max(1)).max(1);
    values[start..end].par_chunks_mut(width).with_min_len(rows_min).for_each(row);
    Ok(())
}

/// `e^x` to about one part in 10^7, without branches so that it vectorises. Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to an integer, which also lies in the low bits.
    const ROUND: f32 = 12_582_912.;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.500_000_06;
    let y = p * r * r + r + 1.;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(exponent)
}

/// Sum in eight interleaved lanes: vectorises, and rounds less than one running sum.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|v| term(*v)).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

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

/// `x (1 + scale) + shift` for `x [B,L,D]`, where shift and scale are numbers `shift` and `scale`
/// of the `[B,K,C,D]` rows that each token's entry uses.
pub(crate) fn modulate(x: &Tensor, table: &Rows, shift: usize, scale: usize) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    if fits(x) {
        let op = Modulate { index: table.shared_index().clone(), shift, scale };
        return x.contiguous()?.apply_op2_no_bwd(table.rows(), &op);
    }
    let shift = component(table, shift, x.dtype())?;
    let scale = component(table, scale, x.dtype())?;
    let groups = scale.dim(1)?;
    let x = x.reshape((batch, groups, tokens / groups, width))?; // [B,g,L/g,D]
    let y = x.broadcast_mul(&(scale + 1.)?)?.broadcast_add(&shift)?;
    y.reshape((batch, tokens, width)) // [B,L,D]
}

/// `x + branch * gate` for `[B,L,D]`, where gate is number `gate` of the `[B,K,C,D]` rows.
pub(crate) fn add_gated(x: &Tensor, branch: &Tensor, table: &Rows, gate: usize) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    if fits(x) {
        let op = AddGated { index: table.shared_index().clone(), gate };
        return x.contiguous()?.apply_op3_no_bwd(&branch.contiguous()?, table.rows(), &op);
    }
    let gate = component(table, gate, x.dtype())?;
    let groups = gate.dim(1)?;
    let branch = branch.reshape((batch, groups, tokens / groups, width))?; // [B,g,L/g,D]
    x + branch.broadcast_mul(&gate)?.reshape((batch, tokens, width))? // [B,L,D]
}

/// Number `c` of `[B,K,C,D]` rows, as `[B,g,1,D]`.
fn component(table: &Rows, c: usize, dtype: DType) -> Result<Tensor> {
    let rows = table.rows().narrow(2, c, 1)?.squeeze(2)?.to_dtype(dtype)?; // [B,K,D]
    let picked = table.with_rows(rows).and_then(|rows| rows.broadcast());
    picked.map_err(crate::Error::through_candle)
}

/// Where a token's row of `[B,K,C,D]` starts.
struct Lookup<'a> {
    index: &'a [Vec<u32>],
    tokens: usize,
    rows: [usize; 3],
}

impl<'a> Lookup<'a> {
    fn new(index: &'a Index, x: &Layout, table: &Layout) -> Result<Self> {
        let (batch, tokens, width) = x.shape().dims3()?;
        let (table_batch, distinct, components, table_width) = table.shape().dims4()?;
        let entries = index[0].len();
        if batch != table_batch || width != table_width || tokens % entries != 0 {
            bail!("rows {:?} with {entries} entries do not fit {:?}", table.dims(), x.dims());
        }
        Ok(Self { index, tokens, rows: [distinct, components, width] })
    }

    fn start(&self, token: usize) -> usize {
        let [distinct, components, width] = self.rows;
        let (batch, token) = (token / self.tokens, token % self.tokens);
        let entries = &self.index[batch];
        let row = entries[token / (self.tokens / entries.len())] as usize;
        (batch * distinct + row) * components * width
    }
}

struct Modulate {
    index: Index,
    shift: usize,
    scale: usize,
}

impl CustomOp2 for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        table: &CpuStorage,
        table_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let lookup = Lookup::new(&self.index, layout, table_layout)?;
        let (x, table, width) = (slice(x, layout)?, slice(table, table_layout)?, lookup.rows[2]);
        let out = each_row(x.len(), width, |token, out| {
            let row = &table[lookup.start(token)..];
            let (shift, scale) = (&row[self.shift * width..], &row[self.scale * width..]);
            let x = &x[token * width..][..width];
            for (((out, x), shift), scale) in out.iter_mut().zip(x).zip(shift).zip(scale) {
                *out = x * (1. + scale) + shift;
            }
        });
        Ok((out, layout.shape().clone()))
    }
}

struct AddGated {
    index: Index,
    gate: usize,
}

impl CustomOp3 for AddGated {
    fn name(&self) -> &'static str {
        "add_gated"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        branch: &CpuStorage,
        branch_layout: &Layout,
        table: &CpuStorage,
        table_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let lookup = Lookup::new(&self.index, layout, table_layout)?;
        let (x, branch) = (slice(x, layout)?, slice(branch, branch_layout)?);
        let (table, width) = (slice(table, table_layout)?, lookup.rows[2]);
        let out = each_row(x.len(), width, |token, out| {
            let gate = &table[lookup.start(token) + self.gate * width..][..width];
            let (x, branch) = (&x[token * width..][..width], &branch[token * width..][..width]);
            for (((out, x), branch), gate) in out.iter_mut().zip(x).zip(branch).zip(gate) {
                *out = x + branch * gate;
            }
        });
        Ok((out, layout.shape().clone()))
    }
}

/// GELU in its tanh form, `x / (1 + exp(-2u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`.
pub(crate) fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if fits(x) { x.contiguous()?.apply_op1_no_bwd(&Gelu) } else { x.gelu() }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu_tanh"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_1;
        let x = slice(x, layout)?;
        let out = each_row(x.len(), GRAIN, |row, out| {
            for (out, x) in out.iter_mut().zip(&x[row * GRAIN..]) {
                let twice_u = TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
                *out = x / (1. + exp(-twice_u));
            }
        });
        Ok((out, layout.shape().clone()))
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

/// Adds two tensors of one shape. candle's own addition hands large tensors to a second thread
/// pool, which fights with rayon's for the cores.
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

#[cfg(test)]
mod tests;
