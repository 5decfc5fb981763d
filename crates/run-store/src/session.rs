//! What all handles of one folder share: its lock, and which growing files are open.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::held::Held;

/// The lock is held until the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) held: Held,
    open: Mutex<BTreeSet<String>>,
}

impl Session {
    pub(crate) fn new(held: Held) -> Arc<Self> {
        Arc::new(Self { held, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a growing file that is open.
    pub(crate) fn one_open(&self) -> Option<String> {
        self.open().first().cloned()
    }
}

/// The right to append to one growing file.
#[derive(Debug)]
pub(crate) struct Lease {
    session: Arc<Session>,
    name: String,
}

impl Lease {
    /// # Errors
    /// [`Error::Open`] if another handle has it.
    pub(crate) fn of(session: &Arc<Session>, name: &str, path: &Path) -> Result<Self> {
        if !session.open().insert(name.into()) {
            return Err(Error::Open { file: path.into() });
        }
        Ok(Self { session: session.clone(), name: name.into() })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.session.open().remove(&self.name);
    }
}
