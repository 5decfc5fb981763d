//! The tests of the whole: real libraries, the real program, the demo model.
//!
//! They need what `cargo xtask plugins` lays out; `cargo xtask test` does that first.
#![allow(clippy::disallowed_methods, reason = "starts the program under test")]

mod cache_commands;
mod cache_properties;
mod command_line;
mod demo;
mod earlier_epoch;
mod frozen_documents;
mod frozen_layouts;
mod given;
mod handover;
mod memory_of_caches;
mod misfits;
mod model_families;
mod plugin_check;
mod plugin_check_inputs;
mod plugin_door;
mod plugin_kit;
mod reference;
mod stream;
mod support;
mod tiny_bench;
mod walls;
