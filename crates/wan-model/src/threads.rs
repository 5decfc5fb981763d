//! Threads: running a forward pass on rayon's pool, and the number of threads of a matrix product.

use std::sync::OnceLock;

use candle_core::utils;

/// Runs `work` on a worker of the current rayon pool.
///
/// A thread outside the pool sleeps and is woken again around every parallel loop. A forward pass
/// has hundreds of short loops, so this is a tenth to a fifth of a small model's time.
pub(crate) fn on_worker<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() {
        return work();
    }
    let span = tracing::Span::current();
    rayon::scope(|_| span.in_scope(work))
}

/// Threads of a matrix product, at least 1: `RAYON_NUM_THREADS`, or the number of physical cores.
/// This is candle's number, requested once per process, because it reads `/proc/cpuinfo` where the
/// variable is not set.
pub(crate) fn of_products() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(utils::get_num_threads)
}
