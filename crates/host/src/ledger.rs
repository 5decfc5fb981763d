//! Counts the bytes that tensor handles keep alive, by what they are and where they lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wan_plugin_api::Place;

/// Bytes kept alive by the handles of one owner (one cache object, one sampler).
#[derive(Debug, Default)]
pub struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// By item, and whether it lies in main memory.
    live: BTreeMap<(Item, bool), u64>,
    peak: u64,
}

/// What a tensor is; what is derived from it (cast, cut, combined) is the same item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Latents.
    Sample,
    /// `e`.
    TimeEmbedding,
    /// `e0`.
    TimeProjection,
    /// Hidden states.
    Hidden,
    /// Residual of the blocks before a decision.
    Probe,
    /// What `store` was given.
    Computed,
    /// A velocity.
    Velocity,
    /// A part of a model.
    Weights,
}

/// Bytes of one item in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// What it is.
    pub item: Item,
    /// Where it lies.
    pub place: Place,
    /// How much of it.
    pub bytes: u64,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        // Plain numbers: whatever a panic interrupted left them whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes alive now.
    pub fn live(&self) -> u64 {
        self.books().live.values().sum()
    }

    /// The same, item by item.
    pub fn holdings(&self) -> Vec<Holding> {
        let holding = |((item, is_host), bytes): (&(Item, bool), &u64)| Holding {
            item: *item,
            place: if *is_host { Place::Host } else { Place::Device },
            bytes: *bytes,
        };
        self.books().live.iter().filter(|(_, bytes)| **bytes > 0).map(holding).collect()
    }

    /// Most bytes alive at the end of any call so far.
    pub fn peak(&self) -> u64 {
        self.books().peak
    }

    /// Marks the end of a call: what is alive now is what the owner keeps.
    pub fn settle(&self) -> u64 {
        let live = self.live();
        let mut books = self.books();
        books.peak = books.peak.max(live);
        live
    }

    /// Enters `bytes` until the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, item: Item, place: Place, bytes: u64) -> Entry {
        let key = (item, place == Place::Host);
        *self.books().live.entry(key).or_default() += bytes;
        Entry { ledger: self.clone(), key, bytes }
    }
}

/// One tensor's bytes in a [`Ledger`].
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    key: (Item, bool),
    bytes: u64,
}

impl Entry {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn item(&self) -> Item {
        self.key.0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        if let Some(live) = books.live.get_mut(&self.key) {
            *live -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_by_item_and_place_and_the_peak_stays() {
        let ledger = Arc::new(Ledger::default());
        let signal = ledger.enter(Item::TimeProjection, Place::Device, 24);
        let residual = ledger.enter(Item::Computed, Place::Host, 100);
        assert_eq!(ledger.settle(), 124);
        drop(residual);
        let (item, place) = (Item::TimeProjection, Place::Device);
        let left = Holding { item, place, bytes: 24 };
        assert_eq!((ledger.holdings(), ledger.settle(), ledger.peak()), (vec![left], 24, 124));
        drop(signal);
        assert_eq!(ledger.live(), 0);
    }
}
