//! Shift, scale and gate by the row of each token's noise level.

use candle_core::{DType, Result, Storage, Tensor};
use wan_kernels::{Affine, Kernels, Matrix, RowTable};

use super::{fits, layer_norm, of_rows};
use crate::arithmetic::numbers;
use crate::rows::Rows;

/// The row of each of some tokens in rows `[B,K,C,D]` on the CPU.
pub(crate) struct Entries<'t> {
    numbers: &'t [f32],
    /// Rows of all videos.
    count: usize,
    components: usize,
    width: usize,
    /// Of each token, the videos one after the other.
    index: Vec<u32>,
}

impl<'t> Entries<'t> {
    /// For the `tokens` tokens of each video.
    ///
    /// # Errors
    /// If they are not as many as the entries of the rows, or a multiple of that.
    pub(crate) fn new(storage: &'t Storage, table: &'t Rows, tokens: usize) -> Result<Self> {
        let (batch, distinct, components, width) = table.rows().dims4()?;
        let entries = table.entries();
        if !tokens.is_multiple_of(entries) {
            candle_core::bail!("{entries} entries of rows do not fit {tokens} tokens");
        }
        let numbers = numbers(storage, table.rows().layout())?;
        let mut index = Vec::with_capacity(batch * tokens);
        for video in 0..batch {
            let first = wan_border::numbers::u32_of(video * distinct);
            let own = table.index(video);
            index.extend((0..tokens).map(|token| first + own[token / (tokens / entries)]));
        }
        Ok(Self { numbers, count: batch * distinct, components, width, index })
    }

    /// Component `component` of the row of each of `tokens`.
    pub(crate) fn of(&self, component: usize, tokens: std::ops::Range<usize>) -> RowTable<'_> {
        let stride = self.components * self.width;
        let own = &self.numbers[component * self.width..];
        let rows = Matrix::new(own, [self.count, self.width], stride);
        RowTable::new(rows, &self.index[tokens], 1, 0)
    }

    /// As [`of`](Self::of), of all tokens.
    pub(crate) fn of_all(&self, component: usize) -> RowTable<'_> {
        self.of(component, 0..self.index.len())
    }
}

/// `norm(x) (1 + scale) + shift` for `x [B,L,D]`. Shift and scale are components `shift` and `scale`
/// of the row `[C,D]` that each token's entry uses, of rows `[B,K,C,D]`.
pub(crate) fn modulated_norm(
    kernels: Kernels,
    x: &Tensor,
    (table, shift, scale): (&Rows, usize, usize),
    eps: f64,
) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    if fits(x) {
        let (storage, _) = table.rows().storage_and_layout();
        let entries = Entries::new(&storage, table, tokens)?;
        let affine =
            Affine::Modulated { scale: entries.of_all(scale), shift: entries.of_all(shift) };
        return of_rows(x, |x, out| {
            #[allow(clippy::cast_possible_truncation, reason = "an epsilon, from f64")]
            wan_kernels::layer_norm(kernels, x, eps as f32, affine, out);
            Ok(())
        });
    }
    let normed = layer_norm(kernels, x, None, eps)?;
    let shift = component(table, shift, x.dtype())?;
    let scale = component(table, scale, x.dtype())?;
    let groups = scale.dim(1)?;
    let normed = normed.reshape((batch, groups, tokens / groups, width))?; // [B,g,L/g,D]
    let y = normed.broadcast_mul(&(scale + 1.)?)?.broadcast_add(&shift)?;
    y.reshape((batch, tokens, width)) // [B,L,D]
}

/// `x + branch * gate` for `[B,L,D]` on a GPU, where gate is component `gate` of rows `[B,K,C,D]`.
pub(crate) fn add_gated(x: &Tensor, branch: &Tensor, table: &Rows, gate: usize) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
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
