//! What authors of plugins test with: a stand-in for the host, and the invariants of a step cache.
//!
//! It is a dev-dependency. A plugin itself links [`wan_plugin_api`] alone.
//!
//! # Samplers and caches without the host
//! [`VecOps`] has the host's operations over plain vectors, and [`ModelFn`] is a model that is a
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
//! It drives every cache of the plugin through the plugin door, along random streams with a noise
//! level per frame, at its own options and at random ones drawn from its option list. A failure
//! panics with the smallest input that shows it and a seed that finds it again.
//!
//! [`PROPERTIES`] is the list, as data. What a cache declares in its plan
//! ([`CachePlan`](wan_plugin_api::CachePlan)) can exempt it from a property ([`Capability`]);
//! nothing else can.
//!
//! The parts can be used alone: [`check`] gives a [`Report`] instead of a panic; [`Stream`] drives
//! one cache along one [`Script`], over any [`Ground`].

#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
mod writing_a_plugin {}

mod capability;
mod checks;
mod drive;
mod ground;
mod input;
mod levels;
mod list;
mod report;
mod runner;
mod saved;
mod subject;
mod table;
mod trial;
mod vec_ops;
mod world;

pub use capability::Capability;
pub use drive::{Entry, Reused, Script, Stream, decisions};
pub use ground::{Ground, Part, TimeRows};
pub use input::Input;
pub use levels::{Fall, Levels, behind_resting, falling, side_by_side};
pub use list::{PROPERTIES, Property};
pub use report::{Broken, Finding, Report};
pub use runner::{Config, check, check_all, check_caches};
pub use saved::SavedBytes;
pub use subject::Subject;
pub use table::table;
pub use vec_ops::{ModelFn, VecOps, values};
pub use world::{Spoilt, World};

#[cfg(test)]
mod tests;
