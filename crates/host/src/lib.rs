//! Placeholder.

pub mod video;
