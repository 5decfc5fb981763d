//! Tests of the workspace that need more than one crate, or more than a crate's public part.

pub mod allocator;
pub mod bad_plugins;
pub mod checkout;
pub mod dice;
pub mod golden;
pub mod memory_of_caches;
pub mod mutants;
pub mod scene;
pub mod tiny_model;
#[cfg(unix)]
pub mod torture;
#[cfg(target_os = "linux")]
pub mod weight_cases;
