//! A plugin: a list of samplers and caches.

use crate::epoch1::{CacheFactory, SamplerFactory};

/// The samplers and caches of a library.
///
/// [`export_plugin!`](crate::export_plugin) writes the implementation. Strategies built into the
/// host are listed with [`plugin!`](crate::plugin) and go through the same binary interface.
pub trait Plugin: 'static {
    /// Package name.
    const NAME: &'static str;
    /// Package version.
    const VERSION: &'static str;
    /// SPDX licence expression.
    const LICENCE: &'static str;

    /// The samplers.
    fn samplers() -> Vec<SamplerFactory>;

    /// The caches.
    fn caches() -> Vec<CacheFactory>;
}
