//! The checks, one function per property.

pub(crate) mod bounds;
pub(crate) mod frames;
pub(crate) mod half;
pub(crate) mod independence;
pub(crate) mod memory;
pub(crate) mod reuse;
pub(crate) mod state;
pub(crate) mod trouble;
