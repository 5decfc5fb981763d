//! Memory, counted allocation by allocation: what a run holds against its plan, and weights at rest
//! against their files.

mod at_rest;
mod plans;

use std::sync::{Mutex, MutexGuard, PoisonError};

use wan_tests::allocator::{self, Counting};

#[global_allocator]
static COUNTING: Counting = Counting;

/// One measurement at a time: the counter is the process's.
static MEASURING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` gives, and the most bytes that were held above `idle` meanwhile.
fn most_above<T>(idle: usize, work: impl FnOnce() -> T) -> (T, u64) {
    allocator::begin();
    let given = work();
    (given, allocator::most().saturating_sub(idle) as u64)
}
