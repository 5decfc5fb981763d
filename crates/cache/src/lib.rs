//! Step caches for video diffusion transformers.
//!
//! Each is a [`Cache`](wan_plugin_api::Cache) of the plugin interface and depends on nothing else:
//! not on the sampler, the guidance, or which expert runs. The crates under `plugins/` only package
//! these caches as libraries; tests call them directly.

pub mod accumulator;
mod calibration;
mod change;
mod easy_cache;
mod first_block;
mod forecast;
mod half_memory;
mod held;
mod limits;
mod mag_cache;
mod scope;
mod tea_cache;

pub use easy_cache::{EasyCache, EasyCacheOptions};
pub use first_block::{FirstBlockCache, FirstBlockOptions};
pub use forecast::{Forecast, ForecastOptions};
pub use half_memory::{HalfMemory, HalfOptions, Halved, Store};
pub use held::Held;
pub use limits::LimitOptions;
pub use mag_cache::{MagCache, MagCacheOptions};
pub use scope::Scope;
pub use tea_cache::{Anchor, Mode, Negative, Preset, TeaCache, TeaCacheOptions};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod misfits;
