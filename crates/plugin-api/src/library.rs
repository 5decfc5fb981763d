//! A plugin as the host holds it, whatever epoch of the interface it was built for.
//!
//! An [`Epoch`] knows how a library of its own is opened, and answers in today's terms. So the host
//! has one kind of sampler and one kind of cache, and a plugin that was built years ago is one of
//! them: the epoch that it speaks translates.

use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::{
    CacheContext, CachePlan, Decision, Denoise, Evaluation, Message, OptionValues, Plugin,
    PluginDescription, Result, SampleRequest, Schedule, Step, Tensor, TensorOps, epoch1,
};

/// The epochs of this crate, the current one first, then the earlier ones.
pub const EPOCHS: &[Epoch] = &[epoch1::EPOCH];

/// An epoch of the binary interface.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// What a manifest calls it.
    pub number: u32,
    /// Loads a library that was built for it and checks its layout.
    ///
    /// Read its manifest first (`manifest`): it tells in one line what this cannot.
    pub open: fn(&Path) -> std::result::Result<Library, OpenError>,
}

/// Why a library was refused.
#[derive(Debug)]
pub struct OpenError {
    /// One line.
    pub summary: String,
    /// Everything that the check says, up to thousands of lines: for the log.
    pub report: String,
}

/// What an epoch makes of a library.
pub trait AnyLibrary: Send + Sync {
    /// What the plugin says of itself.
    ///
    /// # Errors
    /// If the plugin fails, or what it says cannot be read.
    fn describe(&self) -> Result<PluginDescription>;

    /// Makes a sampler.
    ///
    /// # Errors
    /// What the sampler says against the options or the request.
    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance>;

    /// Makes a cache and asks for its plan.
    ///
    /// # Errors
    /// What the cache says against the options or the context.
    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance>;
}

/// A sampler object; see [`Sampler`](crate::Sampler), whose options are given by now.
#[expect(missing_docs, reason = "each method is documented at `Sampler`")]
pub trait AnySampler: Send {
    fn schedule(&self) -> Result<Schedule>;
    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;
    fn extension(&mut self, id: &str, message: Message) -> Result<Message>;
}

/// A cache object; see [`Cache`](crate::Cache), whose options are given by now. Its plan is what it
/// said when it was made.
#[expect(missing_docs, reason = "each method is documented at `Cache`")]
pub trait AnyCache: Send {
    fn plan(&self) -> &CachePlan;
    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision>;
    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;
    fn extension(&mut self, id: &str, message: Message) -> Result<Message>;
}

/// A sampler of a library.
pub type SamplerInstance = Box<dyn AnySampler>;

/// A cache of a library.
pub type CacheInstance = Box<dyn AnyCache>;

/// A handle to a plugin, loaded from a file or built in, that stays until the process ends.
#[derive(Clone, Copy)]
pub struct Library(&'static dyn AnyLibrary);

impl Library {
    /// Holds what an epoch has opened, for good: code and strings of a library are used until the
    /// process ends.
    pub fn new(opened: impl AnyLibrary + 'static) -> Self {
        Self(Box::leak(Box::new(opened)))
    }

    /// A plugin that is linked into this program; it goes through the same door.
    pub fn built_in<P: Plugin>() -> Self {
        Self::new(epoch1::built_in::<P>())
    }
}

impl Deref for Library {
    type Target = dyn AnyLibrary;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}
