//! **Flavour 2 of the binary interface: C.** The one that lasts: `include/wan_plugin.h` says what
//! every function does, on which thread, and how long a pointer is valid.
//!
//! Structs grow at their end, and their first member is their size (`tables`); what does not fit is
//! an extension by id. Nothing here is changed or moved. `host_side` opens a library and gives the
//! host ordinary Rust objects; `plugin_side` gives an author's traits as such tables, with every
//! panic caught.
//!
//! The two sides share no memory but the structs of the header. A tensor is a number that the host
//! looks up (`host_side/handles.rs`), and operations work on the call that is under way on their
//! thread (`host_side/under_way.rs`); so a reference that was released twice, or a call from another
//! thread, is an error and nothing worse.
#![allow(unsafe_code, reason = "functions and structs in C")]

mod convert;
mod host_side;
mod messages;
mod plugin_side;
mod prefixed;
pub mod tables;

pub use host_side::OPENER;
pub use plugin_side::entry;
pub(crate) use plugin_side::{CacheTable, SamplerTable};

/// The header, for authors who write C.
pub const HEADER: &str = include_str!("../../include/wan_plugin.h");

#[cfg(test)]
mod tests;
