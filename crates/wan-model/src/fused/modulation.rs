//! Shift, scale and gate by the row of each token's noise level.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use super::{each_row, fits, slice};
use crate::rows::Rows;

/// Row number of each entry, by batch element.
type Index = Arc<[Vec<u32>]>;

/// `x (1 + scale) + shift` for `x [B,L,D]`. Shift and scale are components `shift` and `scale` of
/// the row `[C,D]` that each token's entry uses, of rows `[B,K,C,D]`.
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

/// `x + branch * gate` for `[B,L,D]`, where gate is component `gate` of rows `[B,K,C,D]`.
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

/// Component `c` of rows `[B,K,C,D]`, as `[B,g,1,D]`.
fn component(table: &Rows, c: usize, dtype: DType) -> Result<Tensor> {
    let rows = table.rows().narrow(2, c, 1)?.squeeze(2)?.to_dtype(dtype)?; // [B,K,D]
    let picked = table.with_rows(rows).and_then(|rows| rows.broadcast());
    picked.map_err(crate::Error::through_candle)
}

/// Finds the start of a token's row in rows `[B,K,C,D]`.
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
