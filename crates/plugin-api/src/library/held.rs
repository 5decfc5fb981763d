//! A loaded plugin, independent of the epoch it was built for.

use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::{
    CacheContext, CachePlan, Decision, Denoise, Evaluation, Message, OptionValues,
    PluginDescription, Result, SampleRequest, Schedule, Step, Tensor, TensorOps,
};

/// An epoch of the binary interface.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// Its number in a manifest.
    pub number: u32,
    /// Loads a library that was built for this epoch and checks its layout.
    ///
    /// Read the library's manifest first (module `manifest`): it refuses other files in one line.
    pub open: fn(&Path) -> std::result::Result<Library, OpenError>,
}

/// Why a library was refused.
#[derive(Debug)]
pub struct OpenError {
    /// One line, for the user.
    pub summary: String,
    /// The full report of the layout check, up to thousands of lines, for the log.
    pub report: String,
}

/// A library of any epoch.
pub trait AnyLibrary: Send + Sync {
    /// The plugin's description of itself.
    ///
    /// # Errors
    /// The error of the plugin; `Invalid` if its answer cannot be read.
    fn describe(&self) -> Result<PluginDescription>;

    /// Makes a sampler with complete options.
    ///
    /// # Errors
    /// `Unsupported` for an unknown id, and the error of [`Sampler::new`](crate::Sampler::new).
    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance>;

    /// Makes a cache with complete options and asks for its plan.
    ///
    /// # Errors
    /// `Unsupported` for an unknown id, and the error of [`Cache::new`](crate::Cache::new).
    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance>;
}

/// A sampler object: the methods of [`Sampler`](crate::Sampler) after `new`.
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

/// A cache object: the methods of [`Cache`](crate::Cache) after `new`. `plan` returns the plan that
/// was read when the object was made.
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

/// A plugin, loaded from a file or built in. Cheap to copy; stays loaded until the process ends.
#[derive(Clone, Copy)]
pub struct Library(&'static dyn AnyLibrary);

impl Library {
    /// Keeps an opened library until the process ends, because its code and strings stay in use.
    pub fn new(opened: impl AnyLibrary + 'static) -> Self {
        Self(Box::leak(Box::new(opened)))
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
