//! A plugin as the host holds it, whatever epoch of the interface it was built for.
//!
//! An [`Epoch`] knows how a library of its own is opened, and answers in today's terms. So the host
//! has one kind of sampler and one kind of cache, and a plugin that was built years ago is one of
//! them: the epoch that it speaks translates.

use std::fmt;
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
    ) -> Result<Box<dyn AnySampler>>;

    /// Makes a cache.
    ///
    /// # Errors
    /// What the cache says against the options or the context.
    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<Box<dyn AnyCache>>;
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

/// A cache object; see [`Cache`](crate::Cache), whose options are given by now.
#[expect(missing_docs, reason = "each method is documented at `Cache`")]
pub trait AnyCache: Send {
    fn plan(&self) -> Result<CachePlan>;
    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision>;
    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;
    fn extension(&mut self, id: &str, message: Message) -> Result<Message>;
}

/// A plugin: loaded from a file, or built in. It stays until the process ends.
#[derive(Clone, Copy)]
pub struct Library(&'static dyn AnyLibrary);

/// A sampler of a library.
pub type SamplerInstance = Box<dyn AnySampler>;

/// A cache of a library, and its plan.
pub struct CacheInstance {
    cache: Box<dyn AnyCache>,
    plan: CachePlan,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

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

    /// What the plugin says of itself.
    ///
    /// # Errors
    /// If the plugin fails, or what it says cannot be read.
    pub fn describe(&self) -> Result<PluginDescription> {
        self.0.describe()
    }

    /// Makes a sampler.
    ///
    /// # Errors
    /// What the sampler says against the options or the request.
    pub fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        self.0.create_sampler(id, options, request)
    }

    /// Makes a cache and asks for its plan.
    ///
    /// # Errors
    /// What the cache says against the options or the context.
    pub fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        let cache = self.0.create_cache(id, options, context)?;
        let plan = cache.plan()?;
        Ok(CacheInstance { cache, plan })
    }
}

impl CacheInstance {
    /// What it said when it was made.
    pub fn plan(&self) -> &CachePlan {
        &self.plan
    }

    /// See [`Cache::decide`](crate::Cache::decide).
    ///
    /// # Errors
    /// What the cache says.
    pub fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        self.cache.decide(evaluation, ops)
    }

    /// See [`Cache::store`](crate::Cache::store).
    ///
    /// # Errors
    /// What the cache says.
    pub fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        self.cache.store(computed, ops)
    }

    /// See [`Cache::extension`](crate::Cache::extension).
    ///
    /// # Errors
    /// What the cache says.
    pub fn extension(&mut self, id: &str, message: Message) -> Result<Message> {
        self.cache.extension(id, message)
    }
}
