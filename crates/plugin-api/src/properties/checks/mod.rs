//! What each property checks.

pub(super) mod bounds;
pub(super) mod frames;
pub(super) mod half;
pub(super) mod independence;
pub(super) mod memory;
pub(super) mod reuse;
pub(super) mod trouble;
