//! The host's side: a library in C as ordinary Rust objects.

mod cache;
mod handles;
mod inputs;
mod library;
mod object;
mod ops;
mod sampler;
mod solver;
mod under_way;

pub use library::OPENER;
