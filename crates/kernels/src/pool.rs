//! Memory for what lives shorter than a call, kept from one call to the next.
//!
//! A forward pass asks for the same sizes again and again, and fresh memory costs a page fault
//! and a cleared page every 4 KiB. What is free is kept as long as all buffers together take little
//! more than those that were once lent at a time: so a pool takes the memory that its users need anyway.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lines::Lines;

/// Buffers by size class. Threads may share it.
#[derive(Default)]
pub struct Pool(Mutex<Shelves>);

#[derive(Default)]
struct Shelves {
    free: BTreeMap<usize, Vec<Lines>>,
    lent: usize,
    counts: Counts,
}

/// Bytes that are kept above what was once lent: small buffers are not to drive out large ones.
const SLACK: usize = 1 << 18;

impl Shelves {
    /// Takes a free buffer, or makes room for another.
    fn take(&mut self, class: usize) -> Option<Lines> {
        let free = self.free.get_mut(&class).and_then(Vec::pop);
        self.counts.lent += 1;
        self.lent += 4 * class;
        self.counts.most_lent = self.counts.most_lent.max(self.lent);
        if free.is_none() {
            self.counts.allocated += 1;
            self.counts.bytes += 4 * class;
            self.shrink();
        }
        free
    }

    /// Frees the largest of the free buffers until all take little more than were once lent.
    fn shrink(&mut self) {
        while self.counts.bytes > self.counts.most_lent + SLACK {
            let Some((class, free)) = self.free.iter_mut().rfind(|(_, free)| !free.is_empty())
            else {
                return;
            };
            free.pop();
            self.counts.bytes -= 4 * class;
        }
    }
}

/// What a pool has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buffers that were lent.
    pub lent: usize,
    /// Of these, those that had to be allocated.
    pub allocated: usize,
    /// Bytes of all buffers, lent and free.
    pub bytes: usize,
    /// The most bytes that were lent at a time since the pool was made or cleared.
    pub most_lent: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.shelves().counts
    }

    /// Frees all buffers that are not lent.
    pub fn clear(&self) {
        let mut shelves = self.shelves();
        let freed: usize = shelves.free.iter().map(|(class, free)| 4 * class * free.len()).sum();
        shelves.counts.bytes -= freed;
        shelves.counts.most_lent = shelves.lent;
        shelves.free.clear();
    }

    /// `len` words that begin at a cache line. What they hold is not defined.
    pub(crate) fn words(&self, len: usize) -> Words<'_> {
        let class = class(len);
        let free = self.shelves().take(class);
        let mut lines = free.unwrap_or_else(|| Lines::zeros(class));
        if cfg!(feature = "checked") {
            lines.words_mut().fill(u32::MAX); // a NaN, as an f32 and as a bf16 pair
        }
        Words { lines, class, len, pool: self }
    }

    /// `len` numbers. What they hold is not defined.
    pub(crate) fn floats(&self, len: usize) -> Floats<'_> {
        Floats(self.words(len))
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.counts()).finish()
    }
}

/// Words of the smallest buffer that holds `len`: a sixteenth of a power of two more each time, so
/// that at most an eighth is wasted.
pub(crate) fn class(len: usize) -> usize {
    let len = len.max(16);
    len.next_multiple_of((len.next_power_of_two() / 16).max(16))
}

/// Words that go back to the pool.
pub(crate) struct Words<'p> {
    lines: Lines,
    class: usize,
    len: usize,
    pool: &'p Pool,
}

impl Deref for Words<'_> {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.lines.words()[..self.len]
    }
}

impl DerefMut for Words<'_> {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.lines.words_mut()[..self.len]
    }
}

impl Drop for Words<'_> {
    fn drop(&mut self) {
        let lines = std::mem::replace(&mut self.lines, Lines::zeros(0));
        let mut shelves = self.pool.shelves();
        shelves.lent -= 4 * self.class;
        shelves.free.entry(self.class).or_default().push(lines);
    }
}

/// Numbers that go back to the pool.
pub(crate) struct Floats<'p>(Words<'p>);

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Floats<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_wastes_at_most_an_eighth() {
        for len in (0..300).chain([1000, 4097, 1 << 20, (1 << 20) + 1, 13_762_560]) {
            let class = class(len);
            assert!(class >= len && class.is_multiple_of(16), "{len}: {class}");
            assert!(class <= (len + len / 8).max(len + 16), "{len}: {class}");
        }
    }

    #[test]
    fn what_comes_back_is_lent_again() {
        let pool = Pool::new();
        let (first, second) = (pool.words(1000), pool.floats(1001));
        assert_eq!((first.len(), second.len()), (1000, 1001));
        drop((first, second));
        let third = pool.words(990);
        let counts = pool.counts();
        assert_eq!((counts.lent, counts.allocated, counts.bytes), (3, 2, 2 * 4 * 1024));
        pool.clear();
        assert_eq!(pool.counts().bytes, 4 * 1024);
        drop(third);
        pool.clear();
        assert_eq!(pool.counts().bytes, 0);
    }

    #[test]
    fn a_pool_takes_no_more_than_was_lent_at_a_time() {
        let pool = Pool::new();
        drop(pool.words(1 << 20));
        drop(pool.words(1 << 19));
        // Both together would be more than was ever needed.
        assert_eq!(pool.counts().bytes, 4 << 19);
        let held = (pool.words(1 << 19), pool.words(1 << 20));
        assert_eq!((pool.counts().bytes, pool.counts().most_lent), (4 * (3 << 19), 4 * (3 << 19)));
        drop(held);
        drop((pool.words(1 << 17), pool.words(1 << 20)));
        assert!(pool.counts().bytes <= 4 * (3 << 19) + SLACK);
    }

    #[test]
    fn buffers_begin_at_a_cache_line() {
        let pool = Pool::new();
        for len in [1, 17, 5000] {
            assert_eq!(pool.words(len).as_ptr().addr() % 64, 0);
        }
    }
}
