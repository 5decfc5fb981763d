//! The trait of all solvers.

use wan_plugin_api::{Result, Tensor, TensorOps};

use crate::memory::Memory;

/// Moves one sample from entry to entry of one [`SigmaTable`](crate::SigmaTable).
///
/// Every operation works frame by frame, so each frame of a sample moves as it would alone. A
/// solver owns its history: one solver serves one sample, and `index` rises by 1 from call to call.
pub trait Solver: Send {
    /// Moves `sample` from `sigmas[index]` to `sigmas[index + 1]`, given the velocity `noise - x0`
    /// there.
    ///
    /// A step between equal sigmas returns the sample bit for bit.
    ///
    /// # Errors
    /// `Failed` for an index outside the table, and errors of `ops`.
    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;

    /// The second half of a step with two evaluations
    /// ([`SolverKind::evaluations`](crate::SolverKind::evaluations)). `moved` is what
    /// [`step`](Self::step) returned, `velocity` the velocity at `moved` and at the end of the
    /// step. A step with one evaluation returns `moved`.
    ///
    /// # Errors
    /// Errors of `ops`.
    fn correct(
        &mut self,
        moved: &Tensor,
        _velocity: &Tensor,
        _ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        Ok(moved.clone())
    }

    /// The memory that later steps depend on. Called between two steps only.
    fn save(&self) -> Memory {
        Memory::default()
    }

    /// Loads what [`save`](Self::save) returned into a solver with the same table and settings that
    /// has taken no step.
    ///
    /// # Errors
    /// `Invalid` for the memory of another solver.
    fn load(&mut self, memory: Memory) -> Result<()> {
        memory.check(0, false)
    }
}
