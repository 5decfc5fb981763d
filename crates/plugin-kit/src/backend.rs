//! What a driver needs from the host's side: operations, tensors to show, and a byte count.

use wan_plugin_api::{DType, Place, Result, Tensor, TensorOps};

use crate::fake_model::{Role, TimeRows};
use crate::vec_ops::VecOps;

/// [`TensorOps`] that can also make tensors and count the bytes that handles keep alive. Each
/// driven cache has its own backend, so the count is that of one cache.
pub trait Backend: TensorOps {
    /// A tensor of `frames` equal latent frames with these elements, frame after frame.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    fn make_tensor(
        &self,
        role: Role,
        frames: usize,
        elements: &[f32],
        format: (DType, Place),
    ) -> Result<Tensor>;

    /// A time signal in f32; each distinct row is held once.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    fn make_rows(&self, rows: &TimeRows) -> Result<Tensor>;

    /// Bytes in `place` that handles keep alive.
    fn held_in(&self, place: Place) -> u64;

    /// Bytes in both places that handles keep alive.
    fn held(&self) -> u64 {
        self.held_in(Place::Device) + self.held_in(Place::Host)
    }
}

impl Backend for VecOps {
    fn make_tensor(
        &self,
        _: Role,
        frames: usize,
        elements: &[f32],
        (dtype, place): (DType, Place),
    ) -> Result<Tensor> {
        let tensor = self.tensor(frames, elements);
        self.move_to(&self.cast(&tensor, dtype)?, place)
    }

    fn make_rows(&self, rows: &TimeRows) -> Result<Tensor> {
        Ok(self.rows(rows.index.len(), &rows.rows, rows.width, &rows.index))
    }

    fn held_in(&self, place: Place) -> u64 {
        self.live_bytes_in(place)
    }
}
