//! Staying on rayon's threads for a whole forward pass, and how many a product takes.

use std::sync::OnceLock;

use candle_core::utils;

/// Runs `work` on a worker of the current rayon pool.
///
/// A thread outside the pool sleeps and is woken again around every parallel loop, and a forward
/// pass has hundreds of short ones: a tenth to a fifth of a small model's time.
pub(crate) fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() {
        return work();
    }
    let span = tracing::Span::current();
    rayon::scope(|_| span.in_scope(work))
}

/// Threads of a matrix product, at least 1: `RAYON_NUM_THREADS`, or the physical cores. candle's
/// number, asked for once in a process: where the variable is not set, it reads `/proc/cpuinfo`.
pub(crate) fn of_products() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(utils::get_num_threads)
}
