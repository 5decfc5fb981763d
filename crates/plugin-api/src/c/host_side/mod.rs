//! The host's side: a library in C as ordinary Rust objects.

mod handles;
mod inputs;
mod library;
mod messages;
mod objects;
mod ops;
mod under_way;

pub use library::OPENER;
