//! A loaded plugin, independent of the epoch it was built for.

use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::manifest::Manifest;
use crate::{
    CacheContext, CachePlan, Decision, Denoise, Error, Evaluation, Message, OptionValues,
    PluginDescription, Result, SampleRequest, Schedule, Step, Tensor, TensorOps,
};

/// An epoch of the binary interface, in one of its flavours.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    /// Its number in a manifest.
    pub number: u32,
    /// Its flavour: one bit of a manifest's.
    pub flavour: u32,
    /// Loads a library that was built for this epoch and checks its layout.
    ///
    /// Its manifest (module `manifest`) is read first: that refuses other files in one line.
    pub open: fn(&Path, &Manifest) -> std::result::Result<Library, OpenError>,
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

    /// Makes a solver with complete options.
    ///
    /// # Errors
    /// `Unsupported` for an unknown id, and the error of the library.
    fn create_solver(
        &self,
        id: &str,
        _options: &OptionValues,
        _context: &SolverContext<'_>,
    ) -> Result<SolverInstance> {
        Err(Error::unsupported(format!("this library has no solver {id}")))
    }
}

/// The noise levels that a solver goes down.
#[derive(Debug, Clone, Copy)]
pub struct SolverContext<'a> {
    /// One more than steps, never rising.
    pub sigmas: &'a [f64],
    /// One for the first evaluation of each step.
    pub timesteps: &'a [f64],
    /// Number in the video of the sample's first frame, for noise.
    pub first_frame: u32,
}

/// A solver object: it moves one sample down one table of noise levels.
pub trait AnySolver: Send {
    /// Model evaluations of step `index`.
    fn evaluations(&self, index: usize) -> u32;

    /// Timestep and sigma at which evaluation `evaluation`, from 1, of step `index` is made; none:
    /// those at the end of the step.
    ///
    /// # Errors
    /// The error of the solver.
    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>>;

    /// Goes on by the velocity of an evaluation, from 0, of step `index`: to where the next
    /// evaluation is made, or to the end of the step.
    ///
    /// # Errors
    /// The error of the solver.
    fn step(
        &mut self,
        place: (usize, u32),
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;

    /// Answers an extension that the solver lists.
    ///
    /// # Errors
    /// `Unsupported` for any other id.
    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message>;
}

/// A sampler object: the methods of [`Sampler`](crate::Sampler) after `new`.
#[expect(missing_docs, reason = "each method is documented at `Sampler`")]
pub trait AnySampler: Send {
    /// From round 0: the first part, or all; from a later one, the part that begins with it.
    fn schedule_from(&self, round: usize) -> Result<Schedule>;
    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor>;
    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message>;
}

/// A cache object: the methods of [`Cache`](crate::Cache) after `new`. `plan` returns the plan that
/// was read when the object was made.
#[expect(missing_docs, reason = "each method is documented at `Cache`")]
pub trait AnyCache: Send {
    fn plan(&self) -> &CachePlan;
    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision>;
    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;
    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message>;
}

impl dyn AnySampler + '_ {
    /// All rounds, however many parts the sampler gives them in. A host that generates does not
    /// hold them all.
    ///
    /// # Errors
    /// The error of the sampler; `Failed` for parts that do not make a whole.
    pub fn whole_schedule(&self) -> Result<Schedule> {
        let mut whole = self.schedule_from(0)?;
        let Some(size) = whole.part_of.take() else { return Ok(whole) };
        size.check()?;
        while whole.rounds.len() < size.rounds {
            let from = whole.rounds.len();
            let part = self.schedule_from(from)?;
            if part.rounds.is_empty() || part.size() != size {
                return Err(Error::failed(format!(
                    "{} rounds of {:?} from round {from} on, of {size:?}",
                    part.rounds.len(),
                    part.size()
                )));
            }
            whole.rounds.extend(part.rounds);
        }
        match whole.size() {
            all if all == size => Ok(whole),
            all => Err(Error::failed(format!("a schedule of {size:?} has {all:?}"))),
        }
    }
}

/// A sampler of a library.
pub type SamplerInstance = Box<dyn AnySampler>;

/// A solver of a library.
pub type SolverInstance = Box<dyn AnySolver>;

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
