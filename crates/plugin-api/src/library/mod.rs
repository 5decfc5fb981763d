//! A plugin as the host uses it, whatever epoch of the interface it was built for.
//!
//! Each [`Epoch`] opens the libraries built for it and translates to the types of this crate. So
//! the host has one kind of sampler and one kind of cache, whenever a plugin was built.

mod epochs;
mod held;
mod log;
mod watched;

pub use epochs::EPOCHS;
pub use held::{
    AnyCache, AnyLibrary, AnySampler, AnySolver, CacheInstance, Epoch, Library, OpenError,
    SamplerInstance, SolverContext, SolverInstance,
};
pub(crate) use log::log_line;
pub use log::log_to;
pub use watched::{Border, inside};
