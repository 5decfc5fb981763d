//! The tests, and what each is of.

use std::fmt;

use serde::Serialize;

/// What a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The library.
    Library,
    /// Each sampler of it.
    Sampler,
    /// Each cache of it.
    Cache,
}

macro_rules! tests {
    ($($test:ident $scope:ident $name:literal $description:literal;)*) => {
        /// One test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Test {
            $(#[doc = $description] $test,)*
        }

        impl Test {
            /// All, in the order in which they are reported.
            pub const ALL: &[Self] = &[$(Self::$test),*];

            /// Its name in `--only` and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$test => $name),* }
            }

            /// What holds when it passes.
            pub fn description(self) -> &'static str {
                match self { $(Self::$test => $description),* }
            }

            /// What it looks at.
            pub fn scope(self) -> Scope {
                match self { $(Self::$test => Scope::$scope),* }
            }
        }
    };
}

tests! {
    Manifest Library "manifest"
        "It loads: manifest, epoch, unwinding panics, layout, and a description that can be read.";
    Metadata Library "metadata"
        "Ids, versions, licence and documentation are there, and in the form that the host shows.";
    SamplerOptions Sampler "sampler-options"
        "Defaults are in range, and no value in range panics; absurd ones had better not.";
    SamplerSchedule Sampler "sampler-schedule"
        "Every schedule falls, leaves no gap and ends clean, for 1 to 1000 steps.";
    SamplerShapes Sampler "sampler-shapes"
        "A step gives the form it was given, and asks the model as often as its round says.";
    SamplerFrozen Sampler "sampler-frozen"
        "Frames that a round does not move keep their bits.";
    SamplerConstant Sampler "sampler-constant"
        "A constant velocity is integrated exactly; noise that is added is that of the level.";
    SamplerHandover Sampler "sampler-handover"
        "Two parts of a schedule, by start_step and end_step, are the whole of it.";
    SamplerDeterminism Sampler "sampler-determinism"
        "The same request gives the same bits.";
    SamplerInstances Sampler "sampler-instances"
        "Two objects that take turns go as each goes alone.";
    SamplerState Sampler "sampler-state"
        "Saved after a round, a fresh object goes on to the bit; for those that list wan.state/1.";
    SamplerNumbers Sampler "sampler-numbers"
        "NaN and infinity in sample or velocity neither panic nor hang.";
    SamplerErrors Sampler "sampler-errors"
        "What the model says against a step is passed on, cancelling above all.";
    SamplerHandles Sampler "sampler-handles"
        "What is held does not grow with the steps, and nothing once the object is gone.";
    SamplerCost Sampler "sampler-cost"
        "A step costs less than a millisecond beside the model.";
    CacheOptions Cache "cache-options"
        "Defaults are in range, and no value in range panics; absurd ones had better not.";
    CacheReuse Cache "cache-reuse"
        "Nothing is reused before it was computed, and what stands in is what was stored.";
    CacheMemory Cache "cache-memory"
        "Declared memory is held memory, where it is wanted, and none is left at the end.";
    CacheDeterminism Cache "cache-determinism"
        "A fresh object repeats what a fresh object did.";
    CacheInstances Cache "cache-instances"
        "Two objects that take turns go as each goes alone.";
    CacheNumbers Cache "cache-numbers"
        "NaN, infinity, zeros and changed shapes compute, and the cache recovers.";
    CacheRules Cache "cache-rules"
        "All other invariants that its plan does not exempt it from.";
    CacheCost Cache "cache-cost"
        "A decision costs less than a millisecond beside the host's operations.";
}

impl Test {
    /// The test of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|test| test.name() == name)
    }
}

/// A test of a library, or of one strategy of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The test.
    pub test: Test,
    /// Id of the strategy.
    pub strategy: Option<String>,
}

impl Case {
    pub(super) fn of_library(test: Test) -> Self {
        Self { test, strategy: None }
    }
}

impl Serialize for Test {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.strategy {
            Some(id) => write!(f, "{} of {id}", self.test.name()),
            None => f.write_str(self.test.name()),
        }
    }
}
