//! One case of one property: a cache, a random input, and ways to drive the cache.

use serde_json::Value;
use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{CachePlan, Choice, Error, ErrorKind, OptionValues};

use crate::cache_under_test::CacheUnderTest;
use crate::drive::{Driver, Entry, drive};
use crate::fake_model::FakeModel;
use crate::input::Input;
use crate::levels::falling;
use crate::script::Script;
use crate::vec_ops::VecOps;

/// Result of a case in which the property is not violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The property holds.
    Held,
    /// The premise is not met.
    Unmet,
}

/// Why a case ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The cache refuses these options.
    Refused,
    /// The property is violated; the message has the facts.
    Broken(String),
}

pub(crate) type Checked = std::result::Result<Verdict, Stop>;

/// Returns `Stop::Broken` with the message unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($says:tt)+) => {
        // Bound first: `!(a < b)` of floats is not `a >= b` where one is NaN.
        let holds: bool = $holds;
        if !holds {
            return Err($crate::case::Stop::Broken(format!($($says)+)));
        }
    };
}
pub(crate) use ensure;

/// A cache and an input.
pub(crate) struct Case<'a> {
    pub(crate) cache: &'a CacheUnderTest,
    pub(crate) input: &'a Input,
}

impl Case<'_> {
    /// The script of the input, in its formats.
    pub(crate) fn script(&self) -> Script {
        let Input { seed, dtype, keep, .. } = *self.input;
        Script::new(self.input.levels(), FakeModel { dtype, keep, ..FakeModel::new(seed) })
    }

    /// The input's options with the option `name` set to `value`.
    pub(crate) fn options_with(&self, name: &str, value: impl Into<Value>) -> OptionValues {
        let mut options = self.input.options.clone();
        options.insert(name.into(), value.into());
        options
    }

    /// The input's value of a numeric option.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.input.options.get(name).and_then(Value::as_f64)
    }

    /// Whether the input's value of an option differs from the cache's base options.
    pub(crate) fn was_set(&self, name: &str) -> bool {
        self.input.options.get(name) != self.cache.base().get(name)
    }

    /// A script for the branch `uncond` of another model: it follows the choices in `log` where the
    /// cache's decisions are shared, and has levels of its own where they are not.
    pub(crate) fn other_branch(&self, first: &Script, log: &[Entry]) -> Result<Script, Stop> {
        let mut second = Script { branch: "uncond", ..first.clone() };
        second.model.seed = !first.model.seed;
        if self.plan(first)?.shared_decision {
            second.leaders = log.iter().map(|entry| entry.choice).collect();
        } else {
            second.levels = falling(&self.input.other);
        }
        Ok(second)
    }

    /// The plan of the cache for this script.
    pub(crate) fn plan(&self, script: &Script) -> Result<CachePlan, Stop> {
        Ok(self.create(script)?.plan().clone())
    }

    /// A driver before the first evaluation.
    pub(crate) fn driver<'s>(&self, script: &'s Script) -> Result<Driver<'s, VecOps>, Stop> {
        Ok(Driver::new(self.create(script)?, VecOps::default(), script))
    }

    /// A fresh object with the input's options.
    pub(crate) fn create(&self, script: &Script) -> Result<CacheInstance, Stop> {
        self.cache.create(&self.input.options, &script.context()).map_err(refused)
    }

    /// Drives the cache along all of a script.
    pub(crate) fn run(&self, script: &Script) -> Result<Vec<Entry>, Stop> {
        self.run_with(&self.input.options, script)
    }

    /// [`run`](Self::run) with other options.
    pub(crate) fn run_with(
        &self,
        options: &OptionValues,
        script: &Script,
    ) -> Result<Vec<Entry>, Stop> {
        run_of(self.cache, options, script)
    }
}

/// Drives any cache along all of a script.
pub(crate) fn run_of(
    cache: &CacheUnderTest,
    options: &OptionValues,
    script: &Script,
) -> Result<Vec<Entry>, Stop> {
    let cache = cache.create(options, &script.context()).map_err(refused)?;
    let (log, _) = drive(cache, VecOps::default(), script).map_err(failed)?;
    Ok(log)
}

fn refused(error: Error) -> Stop {
    match error.kind {
        ErrorKind::Invalid => Stop::Refused,
        _ => Stop::Broken(format!("it could not be made: {error}")),
    }
}

/// An error in the middle of a stream violates every property.
pub(crate) fn failed(error: Error) -> Stop {
    Stop::Broken(format!("it failed: {error}"))
}

/// The reused evaluations, with their numbers.
pub(crate) fn reuses(log: &[Entry]) -> impl Iterator<Item = (usize, &Entry)> {
    log.iter().enumerate().filter(|(_, entry)| entry.choice == Choice::Reuse)
}

/// Number of computed evaluations.
pub(crate) fn computes(log: &[Entry]) -> usize {
    log.len() - reuses(log).count()
}

/// The last computed evaluation before `index`.
pub(crate) fn last_computed(log: &[Entry], index: usize) -> Option<&Entry> {
    log[..index].iter().rev().find(|entry| entry.choice == Choice::Compute)
}

/// `Held` if the case showed what the property is about, `Unmet` if not.
pub(crate) fn held_if(seen: bool) -> Verdict {
    if seen { Verdict::Held } else { Verdict::Unmet }
}
