//! Runs the properties over random inputs.

use std::cell::Cell;

use proptest::test_runner::{
    Config as RunnerConfig, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
use wan_plugin_api::Plugin;
use wan_plugin_api::library::Library;

use crate::input::inputs;
use crate::list::{PROPERTIES, Property};
use crate::report::{Broken, Finding, Report};
use crate::subject::Subject;
use crate::trial::{Stop, Trial, Verdict};

/// How thoroughly is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Random inputs for each property.
    pub cases: u32,
    /// Where the random numbers begin: equal seeds give equal inputs.
    pub seed: u64,
    /// Most attempts at making a failing input smaller.
    pub shrinking: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { cases: 256, seed: 0, shrinking: 400 }
    }
}

/// Holds every cache of a plugin to every property.
///
/// # Panics
/// If one does not hold, with a report of it.
pub fn check_caches<P: Plugin>() {
    check_all(&[Library::built_in::<P>()], &Config::default());
}

/// Holds every cache of these libraries to every property.
///
/// # Panics
/// If one does not hold, with a report of it.
pub fn check_all(libraries: &[Library], config: &Config) -> Vec<Report> {
    let subjects =
        Subject::all(libraries).unwrap_or_else(|e| panic!("a cache cannot be made: {e}"));
    let reports: Vec<Report> = subjects.iter().map(|s| check(s, config)).collect();
    let broken: Vec<String> =
        reports.iter().filter(|r| !r.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "invariants of a cache do not hold:\n{}", broken.join("\n"));
    reports
}

/// Holds one cache to every property.
pub fn check(subject: &Subject, config: &Config) -> Report {
    let findings = PROPERTIES.iter().map(|p| p.check_on(subject, config)).collect();
    Report { cache: subject.id().into(), findings }
}

/// How one case went.
enum Case {
    Held,
    Exempt,
    Unmet,
    Refused,
    Broken(String),
}

impl Property {
    /// Holds one cache to this property.
    pub fn check_on(&'static self, subject: &Subject, config: &Config) -> Finding {
        let [held, exempt, unmet, refused] = std::array::from_fn(|_| Cell::new(0u32));
        let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        let result = self.runner(config).run(&inputs(subject), |input| {
            match self.case(&Trial { subject, input: &input }) {
                Case::Held => count(&held),
                Case::Exempt => count(&exempt),
                Case::Unmet => count(&unmet),
                Case::Refused => count(&refused),
                Case::Broken(message) => return Err(TestCaseError::fail(message)),
            }
            Ok(())
        });
        let broken = match result {
            Ok(()) => None,
            Err(TestError::Fail(reason, input)) => Some(Broken {
                message: reason.to_string(),
                input: format!("{input:?}"),
                seed: config.seed,
                cases: config.cases,
            }),
            Err(other) => Some(Broken {
                message: other.to_string(),
                input: String::new(),
                seed: config.seed,
                cases: config.cases,
            }),
        };
        Finding {
            property: self,
            held: held.get(),
            exempt: exempt.get(),
            unmet: unmet.get(),
            refused: refused.get(),
            broken,
        }
    }

    fn case(&self, trial: &Trial<'_>) -> Case {
        let plan = match trial.plan(&trial.script()) {
            Ok(plan) => plan,
            Err(Stop::Refused) => return Case::Refused,
            Err(Stop::Broken(message)) => return Case::Broken(message),
        };
        if self.exempt.iter().any(|capability| capability.is_declared(&plan)) {
            return Case::Exempt;
        }
        match (self.check)(trial) {
            Ok(Verdict::Held) => Case::Held,
            Ok(Verdict::Unmet) => Case::Unmet,
            Err(Stop::Refused) => Case::Refused,
            Err(Stop::Broken(message)) => Case::Broken(message),
        }
    }

    /// A runner whose numbers depend on seed and property alone.
    fn runner(&self, config: &Config) -> TestRunner {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&config.seed.to_le_bytes());
        self.name.bytes().zip(&mut seed[8..]).for_each(|(byte, place)| *place = byte);
        let runner = RunnerConfig {
            cases: config.cases,
            // The report says the seed, which finds the case again; a library has no folder to
            // write into.
            failure_persistence: None,
            max_shrink_iters: config.shrinking,
            ..RunnerConfig::default()
        };
        TestRunner::new_with_rng(runner, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}
