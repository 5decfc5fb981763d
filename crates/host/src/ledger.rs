//! Counts the bytes that tensor handles keep alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes kept alive by the handles of one owner (one cache object, one sampler).
#[derive(Debug, Default)]
pub struct Ledger {
    live: AtomicU64,
    peak: AtomicU64,
}

impl Ledger {
    /// Bytes alive now.
    pub fn live(&self) -> u64 {
        self.live.load(Relaxed)
    }

    /// Most bytes alive at the end of any call so far.
    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    /// Marks the end of a call: what is alive now is what the owner keeps.
    pub fn settle(&self) -> u64 {
        let live = self.live();
        self.peak.fetch_max(live, Relaxed);
        live
    }

    /// Enters `bytes` until the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Entry {
        self.live.fetch_add(bytes, Relaxed);
        Entry { ledger: self.clone(), bytes }
    }
}

/// One tensor's bytes in a [`Ledger`].
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Entry {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.live.fetch_sub(self.bytes, Relaxed);
    }
}
