//! A way to stop work that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;
use wan_model::{Observer, Point};

use crate::error::{Error, Result};

/// Stops what it was handed to: clones are one and the same.
///
/// Work looks at it between rounds and between the blocks and layers of every network, and ends
/// with [`Error::Cancelled`].
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the work; true if it was stopped already.
    pub fn cancel(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    /// Whether the work is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`Error::Cancelled`] once the work is to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Ends the forward passes of the work.
impl Observer for &Cancel {
    fn looks(&self) -> bool {
        false
    }

    fn see(&mut self, _: Point, _: &Tensor) {}

    fn stops(&self) -> bool {
        self.is_cancelled()
    }
}
