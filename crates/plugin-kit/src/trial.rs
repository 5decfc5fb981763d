//! One case of one property: a subject, an input, and ways to run them.

use serde_json::Value;
use wan_plugin_api::{CachePlan, Choice, Error, ErrorKind, OptionValues};

use crate::drive::{Entry, Script, Stream};
use crate::input::Input;
use crate::subject::Subject;
use crate::vec_ops::VecOps;
use crate::world::World;

/// What came of a case that is not broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The property holds.
    Held,
    /// Its premise is not met.
    Unmet,
}

/// Why a case ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The cache refuses these options.
    Refused,
    /// The property does not hold.
    Broken(String),
}

pub(crate) type Checked = std::result::Result<Verdict, Stop>;

/// Breaks the property unless something holds.
macro_rules! ensure {
    ($holds:expr, $($says:tt)+) => {
        // Bound first: of two floats, neither may be the smaller.
        let holds: bool = $holds;
        if !holds {
            return Err($crate::trial::Stop::Broken(format!($($says)+)));
        }
    };
}
pub(crate) use ensure;

/// A subject and an input.
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) input: &'a Input,
}

impl Trial<'_> {
    /// The stream of the input, over a world of its formats.
    pub(crate) fn script(&self) -> Script {
        let world = World { dtype: self.input.dtype, keep: self.input.keep, ..self.world() };
        Script::new(self.input.levels(), world)
    }

    /// A world in f32.
    pub(crate) fn world(&self) -> World {
        World::new(self.input.seed)
    }

    /// The input's options with one at another value.
    pub(crate) fn options_with(&self, name: &str, value: impl Into<Value>) -> OptionValues {
        let mut options = self.input.options.clone();
        options.insert(name.into(), value.into());
        options
    }

    /// The value of a number among the options.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.input.options.get(name).and_then(Value::as_f64)
    }

    /// Whether an option is at another value than the subject's own.
    pub(crate) fn was_set(&self, name: &str) -> bool {
        self.input.options.get(name) != self.subject.base().get(name)
    }

    /// What the cache says of this stream.
    pub(crate) fn plan(&self, script: &Script) -> Result<CachePlan, Stop> {
        let made = self.subject.create(&self.input.options, &script.context());
        made.map(|cache| cache.plan().clone()).map_err(refused)
    }

    /// A stream at its beginning.
    pub(crate) fn stream<'s>(&self, script: &'s Script) -> Result<Stream<'s, VecOps>, Stop> {
        stream_of(self.subject, &self.input.options, script)
    }

    /// All of a stream.
    pub(crate) fn run(&self, script: &Script) -> Result<Vec<Entry>, Stop> {
        self.run_with(&self.input.options, script)
    }

    /// All of a stream, with other options.
    pub(crate) fn run_with(
        &self,
        options: &OptionValues,
        script: &Script,
    ) -> Result<Vec<Entry>, Stop> {
        run_of(self.subject, options, script)
    }
}

fn stream_of<'s>(
    subject: &Subject,
    options: &OptionValues,
    script: &'s Script,
) -> Result<Stream<'s, VecOps>, Stop> {
    let cache = subject.create(options, &script.context()).map_err(refused)?;
    Ok(Stream::new(cache, VecOps::default(), script))
}

/// All of a stream of any subject.
pub(crate) fn run_of(
    subject: &Subject,
    options: &OptionValues,
    script: &Script,
) -> Result<Vec<Entry>, Stop> {
    let stream = stream_of(subject, options, script)?.run().map_err(failed)?;
    Ok(stream.end().0)
}

fn refused(error: Error) -> Stop {
    match error.kind {
        ErrorKind::Invalid => Stop::Refused,
        _ => Stop::Broken(format!("it could not be made: {error}")),
    }
}

/// An error in the middle of a stream is no answer.
pub(crate) fn failed(error: Error) -> Stop {
    Stop::Broken(format!("it failed: {error}"))
}

/// The evaluations that reused.
pub(crate) fn reuses(log: &[Entry]) -> impl Iterator<Item = (usize, &Entry)> {
    log.iter().enumerate().filter(|(_, entry)| entry.choice == Choice::Reuse)
}

/// How many evaluations computed.
pub(crate) fn computes(log: &[Entry]) -> usize {
    log.len() - reuses(log).count()
}

/// The last computed evaluation before `index`.
pub(crate) fn last_computed(log: &[Entry], index: usize) -> Option<&Entry> {
    log[..index].iter().rev().find(|entry| entry.choice == Choice::Compute)
}

/// Held where there was something to see, unmet where there was not.
pub(crate) fn held_if(seen: bool) -> Verdict {
    if seen { Verdict::Held } else { Verdict::Unmet }
}
