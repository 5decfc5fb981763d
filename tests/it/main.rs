//! The tests of the whole: real libraries, the real program, the demo model.
//!
//! They need what `cargo xtask plugins` lays out; `cargo xtask test` does that first.
#![allow(clippy::disallowed_methods, reason = "starts the program under test")]

#[cfg(unix)]
mod bad_in_c;
mod bad_requests;
mod block_decisions;
mod border_walls;
mod built;
mod c_door;
mod cache_commands;
mod cache_properties;
mod calibrations;
mod cancelling;
mod checkpoints;
#[cfg(unix)]
mod claims;
mod command_line;
mod command_texts;
mod comparisons;
mod decoding_on;
mod demo;
mod downloaded;
mod earlier_epoch;
mod embedding;
mod euler_steps;
mod exit_codes;
mod experts;
mod extensions;
#[cfg(target_os = "linux")]
mod faults;
mod ffmpeg;
mod frozen_documents;
mod frozen_header;
mod frozen_layouts;
mod full_disk;
mod given;
mod golden;
mod handover;
mod handover_of_solvers;
mod host_operations;
mod hostile_inputs;
mod kept_prompts;
mod kept_runs;
mod latents;
mod library;
mod loras;
mod measured_speed;
mod memory_of_caches;
mod misfits;
mod model_families;
mod model_folders;
mod option_ranges;
mod outputs;
mod pictures;
mod plugin_check;
mod plugin_check_inputs;
mod plugin_door;
mod plugin_kit;
mod previews;
#[cfg(target_os = "linux")]
mod processors;
mod promises;
mod recordings;
mod reference;
mod reproducing;
mod requests;
mod resuming;
mod runs;
mod schedules;
mod side_doors;
mod solvers_of_libraries;
#[cfg(target_os = "linux")]
mod sparse_weights;
mod spied;
mod stream;
mod streams;
mod support;
mod swapped;
mod tiny_bench;
mod torch_files;
#[cfg(unix)]
mod torture;
mod unreadable;
mod wall;
mod walls;
#[cfg(target_os = "linux")]
mod weight_files;
mod whole_or_nothing;
mod wrong_numbers;
