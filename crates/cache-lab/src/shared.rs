//! A witness that is lent to a run and comes back.

use std::sync::{Arc, Mutex, PoisonError};

use wan_host::parts::Witness;
use wan_host::{Error, Result};

/// A witness that is its owner's again once the run has ended.
pub struct Shared<W>(Arc<Mutex<W>>);

impl<W: Witness + Send + 'static> Shared<W> {
    /// Shares a witness.
    pub fn new(witness: W) -> Self {
        Self(Arc::new(Mutex::new(witness)))
    }

    /// What a run is given.
    pub fn for_run(&self) -> Arc<Mutex<dyn Witness + Send>> {
        self.0.clone()
    }

    /// The witness, with what it has seen.
    ///
    /// # Errors
    /// If a run still has it.
    pub fn into_inner(self) -> Result<W> {
        let alone = Arc::into_inner(self.0);
        let alone = alone.ok_or_else(|| Error::invalid("a run still shows this witness"))?;
        Ok(alone.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}
