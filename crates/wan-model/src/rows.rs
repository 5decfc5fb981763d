//! A signal with one row per distinct timestep, and the row number of each frame or token.
//!
//! In diffusion forcing every latent frame has its own timestep, so the published code copies the
//! time embedding to every token: 6.3 GB in f32 for the 14B model at 97 frames of 544x960. But
//! frames share timesteps: a synchronous run has one, an asynchronous run about one per moving
//! block. [`Rows`] keeps the K distinct rows of each batch element and a small index. The kernels
//! of `fused` read the row of a token, and nothing is expanded.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Distinct rows `[B,K,..]` and, for each batch element, the row number of each of its `n` entries.
///
/// Entries are the whole video (`n = 1`), latent frames or tokens, in token order: token `l` of `L`
/// belongs to entry `l / (L / n)`.
#[derive(Clone, Debug)]
pub struct Rows {
    rows: Tensor,
    index: Arc<[Vec<u32>]>,
}

impl Rows {
    /// From rows `[B,K,..]` and `B` lists of `n` row numbers below `K`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape or a row number that is too large.
    pub fn new(rows: Tensor, index: Arc<[Vec<u32>]>) -> Result<Self> {
        let (batch, distinct) = match rows.dims() {
            [batch, distinct, ..] => (*batch, *distinct),
            found => return Err(Error::input("rows", "[B,K,..]", found)),
        };
        let entries = index.first().map_or(0, Vec::len);
        if index.len() != batch || entries == 0 || index.iter().any(|i| i.len() != entries) {
            let lengths: Vec<_> = index.iter().map(Vec::len).collect();
            return Err(Error::input(
                "rows index",
                format!("{batch} lists of one length"),
                lengths,
            ));
        }
        if let Some(row) = index.iter().flatten().find(|row| **row as usize >= distinct) {
            return Err(Error::input("rows index", format!("row numbers below {distinct}"), row));
        }
        Ok(Self { rows, index })
    }

    /// Other rows `[B,K,..]` with the same index.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_rows(&self, rows: Tensor) -> Result<Self> {
        Self::new(rows, self.index.clone())
    }

    /// The same rows for a run of `tokens` tokens: one entry per token of the run, or the one entry
    /// of the whole video.
    pub(crate) fn of_tokens(&self, run: &Range<usize>, tokens: usize) -> Result<Self> {
        let entries = self.entries();
        if entries == 1 || run.len() == tokens {
            return Ok(self.clone());
        }
        if !tokens.is_multiple_of(entries) {
            return Err(Error::input(
                "rows index",
                format!("entries that divide {tokens}"),
                entries,
            ));
        }
        let each = tokens / entries;
        let own = |index: &Vec<u32>| run.clone().map(|token| index[token / each]).collect();
        Self::new(self.rows.clone(), self.index.iter().map(own).collect())
    }

    /// The distinct rows `[B,K,..]`.
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// Row number of each entry of batch element `batch`.
    #[expect(clippy::should_implement_trait, reason = "the paper's word; `rows[b]` would not say")]
    pub fn index(&self, batch: usize) -> &[u32] {
        &self.index[batch]
    }

    /// Entries per batch element: 1, latent frames or tokens.
    pub fn entries(&self) -> usize {
        self.index[0].len()
    }

    /// Distinct rows per batch element, K.
    pub fn distinct(&self) -> usize {
        self.rows.dims()[1]
    }

    /// Bytes of the distinct rows.
    pub fn bytes(&self) -> usize {
        self.rows.elem_count() * self.rows.dtype().size_in_bytes()
    }

    /// One row per entry, `[B,n,..]`, for tests and for devices without a kernel that uses the
    /// index.
    ///
    /// # Errors
    /// If the device fails.
    pub fn gather(&self) -> Result<Tensor> {
        let mut gathered = Vec::with_capacity(self.index.len());
        for (batch, index) in self.index.iter().enumerate() {
            let index = Tensor::new(index.as_slice(), self.rows.device())?;
            gathered.push(self.rows.get(batch)?.index_select(&index, 0)?);
        }
        Ok(Tensor::stack(&gathered, 0)?) // [B,n,..]
    }

    /// Rows `[B,K,D]` as `[B,g,1,D]`, which broadcasts over tokens viewed as `[B,g,L/g,D]`: `g = 1`
    /// if there is one distinct row, else `g = n`.
    pub(crate) fn broadcast(&self) -> Result<Tensor> {
        let rows = if self.distinct() == 1 { self.rows.clone() } else { self.gather()? };
        Ok(rows.unsqueeze(2)?) // [B,g,1,D]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn rows() -> Rows {
        let rows = Tensor::arange(0f32, 8., &Device::Cpu).unwrap().reshape((2, 2, 2)).unwrap();
        Rows::new(rows, vec![vec![0, 1, 1], vec![1, 0, 1]].into()).unwrap()
    }

    #[test]
    fn gather_repeats_rows_by_the_index() {
        let gathered = rows().gather().unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(gathered[0], [[0., 1.], [2., 3.], [2., 3.]]);
        assert_eq!(gathered[1], [[6., 7.], [4., 5.], [6., 7.]]);
    }

    #[test]
    fn a_run_of_tokens_keeps_its_rows() {
        let run = rows().of_tokens(&(1..5), 6).unwrap(); // two tokens an entry
        assert_eq!(
            (run.index(0), run.index(1)),
            ([0, 1, 1, 1].as_slice(), [1, 0, 0, 1].as_slice())
        );
        assert_eq!(rows().of_tokens(&(0..6), 6).unwrap().entries(), 3);
        assert!(rows().of_tokens(&(0..2), 7).is_err());
    }

    #[test]
    fn bytes_count_rows_not_entries() {
        assert_eq!((rows().bytes(), rows().entries(), rows().distinct()), (2 * 2 * 2 * 4, 3, 2));
    }

    #[test]
    fn an_index_beyond_the_rows_is_refused() {
        let rows = rows().rows().clone();
        assert!(Rows::new(rows.clone(), vec![vec![0, 2], vec![0, 0]].into()).is_err());
        assert!(Rows::new(rows.clone(), vec![vec![0], vec![0, 0]].into()).is_err());
        assert!(Rows::new(rows, vec![vec![0]].into()).is_err());
    }
}
