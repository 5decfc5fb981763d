//! Structs that begin with their size.

/// A struct that begins with its size, and may grow at its end.
///
/// # Safety
/// The first member is the size, as `u32`, and zeros are a value of every other one.
pub(super) unsafe trait Prefixed: Copy {
    /// Bytes that it had when the interface was frozen: all that may be asked of the other side.
    const FROZEN: usize;
}

/// Where a member ends that lies at `place`.
pub(super) const fn end<T, M>(place: usize, _: fn(&T) -> &M) -> usize {
    place + size_of::<M>()
}
