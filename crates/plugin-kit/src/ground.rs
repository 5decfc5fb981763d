//! The host's side of the operations: makes tensors, and counts what is kept of them.

use wan_plugin_api::{DType, Place, Result, Signal, Tensor, TensorOps};

use crate::vec_ops::VecOps;

/// What a tensor is laid out as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A signal.
    Signal(Signal),
    /// What `store` is given.
    Computed,
}

/// Distinct rows of a time signal, and the row of each frame.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeRows {
    /// Which of the two.
    pub signal: Signal,
    /// Elements, row after row.
    pub rows: Vec<f32>,
    /// Elements of one row.
    pub width: usize,
    /// The row of each frame.
    pub index: Vec<u32>,
}

/// Operations that a cache is given, with the means to make their tensors and to count them. Each
/// stream has one of its own.
pub trait Ground: TensorOps {
    /// A tensor of `frames` equal frames.
    ///
    /// # Errors
    /// If it cannot be made.
    fn lay(
        &self,
        part: Part,
        frames: usize,
        elements: &[f32],
        format: (DType, Place),
    ) -> Result<Tensor>;

    /// A time signal, each row held once.
    ///
    /// # Errors
    /// If it cannot be made.
    fn lay_rows(&self, rows: &TimeRows) -> Result<Tensor>;

    /// Bytes that handles keep alive in `place`.
    fn held_in(&self, place: Place) -> u64;

    /// Bytes that handles keep alive.
    fn held(&self) -> u64 {
        self.held_in(Place::Device) + self.held_in(Place::Host)
    }
}

impl Ground for VecOps {
    fn lay(
        &self,
        _: Part,
        frames: usize,
        elements: &[f32],
        (dtype, place): (DType, Place),
    ) -> Result<Tensor> {
        let tensor = self.tensor(frames, elements);
        self.move_to(&self.cast(&tensor, dtype)?, place)
    }

    fn lay_rows(&self, rows: &TimeRows) -> Result<Tensor> {
        Ok(self.rows(rows.index.len(), &rows.rows, rows.width, &rows.index))
    }

    fn held_in(&self, place: Place) -> u64 {
        self.live_bytes_in(place)
    }
}
