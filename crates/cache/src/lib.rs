//! Step caches for video diffusion transformers.
//!
//! Each is a [`Cache`](wan_plugin_api::Cache) of the plugin interface and knows nothing else: not
//! the sampler, not guidance, not which expert runs. The plugins under `plugins/` only package
//! what is here, so that tests reach the algorithms without loading anything.

pub mod accumulator;
mod half_memory;
mod tea_cache;

pub use half_memory::{HalfMemory, HalfOptions, Halved, Store};
pub use tea_cache::{Anchor, Mode, Negative, Scope, TeaCache, TeaCacheOptions};
