//! Test tools for plugin authors: a stand-in for the host, and the invariants of a step cache.
//!
//! This is a dev-dependency. A plugin itself links [`wan_plugin_api`] alone.
//!
//! # Samplers and caches without the host
//! [`VecOps`] implements the host's operations on plain vectors. [`ModelFn`] is a model given by a
//! closure.
//!
//! # The invariants of a cache
//! In the tests of a plugin:
//!
//! ```
//! # wan_plugin_api::plugin! { pub struct MyPlugin { samplers: [], caches: [] } }
//! # fn every_cache_keeps_the_invariants() {
//! wan_plugin_kit::check_caches::<MyPlugin>();
//! # }
//! # every_cache_keeps_the_invariants();
//! ```
//!
//! This drives every cache of the plugin through the binary interface, along random streams with
//! one noise level per latent frame, at the default options and at random ones. A violation panics
//! with the smallest input found and the seed that reproduces it.
//!
//! [`PROPERTIES`] is the list of invariants. A cache is exempt from one only by what it declares in
//! its plan ([`CachePlan`](wan_plugin_api::CachePlan), [`Capability`]).
//!
//! The parts can be used alone: [`check`] returns a [`Report`] instead of a panic; [`drive`] drives
//! one cache along one [`Script`] on any [`Backend`].

#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
mod writing_a_plugin {}

mod backend;
mod cache_under_test;
mod capability;
mod case;
mod checks;
mod drive;
mod fake_model;
mod input;
mod levels;
mod list;
mod property;
mod report;
mod runner;
mod saved;
mod script;
mod table;
mod vec_ops;

pub use backend::Backend;
pub use cache_under_test::CacheUnderTest;
pub use capability::Capability;
pub use drive::{Driver, Entry, Reused, decisions, drive};
pub use fake_model::{FakeModel, Role, Spoilt, TimeRows};
pub use input::Input;
pub use levels::{Fall, Levels, falling, side_by_side, with_frozen_prefix};
pub use list::PROPERTIES;
pub use property::Property;
pub use report::{Broken, Finding, Report};
pub use runner::{Config, check, check_all, check_caches};
pub use saved::SavedBytes;
pub use script::{Script, small_context};
pub use table::table;
pub use vec_ops::{ModelFn, VecOps, values};

#[cfg(test)]
mod tests;
