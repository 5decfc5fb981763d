//! Checks properties on random inputs.

use std::cell::Cell;

use proptest::test_runner::{
    Config as RunnerConfig, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
use wan_plugin_api::Plugin;
use wan_plugin_api::library::Library;

use crate::cache_under_test::CacheUnderTest;
use crate::case::{Case, Stop, Verdict};
use crate::input::inputs;
use crate::list::PROPERTIES;
use crate::property::Property;
use crate::report::{Broken, Finding, Report};

/// How thoroughly to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Random inputs for each property.
    pub cases: u32,
    /// Seed of the random inputs: equal seeds give equal inputs.
    pub seed: u64,
    /// Largest number of attempts to shrink a failing input.
    pub shrinking: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { cases: 256, seed: 0, shrinking: 400 }
    }
}

/// Checks every property of every cache of a plugin, with the default [`Config`].
///
/// # Panics
/// If a property is violated or a cache cannot be made; the message is the report.
pub fn check_caches<P: Plugin>() {
    check_all(&[Library::built_in::<P>()], &Config::default());
}

/// Checks every property of every cache of these libraries.
///
/// # Panics
/// If a property is violated or a cache cannot be made; the message is the report.
pub fn check_all(libraries: &[Library], config: &Config) -> Vec<Report> {
    let caches =
        CacheUnderTest::all(libraries).unwrap_or_else(|e| panic!("a cache cannot be made: {e}"));
    let reports: Vec<Report> = caches.iter().map(|cache| check(cache, config)).collect();
    let broken: Vec<String> =
        reports.iter().filter(|r| !r.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "invariants of a cache do not hold:\n{}", broken.join("\n"));
    reports
}

/// Checks every property of one cache.
pub fn check(cache: &CacheUnderTest, config: &Config) -> Report {
    let findings = PROPERTIES.iter().map(|p| p.check_on(cache, config)).collect();
    Report { cache: cache.id().into(), findings }
}

/// Result of one case.
enum CaseResult {
    Held,
    Exempt,
    Unmet,
    Refused,
    Broken(String),
}

impl Property {
    /// Checks this property of one cache.
    pub fn check_on(&'static self, cache: &CacheUnderTest, config: &Config) -> Finding {
        let [held, exempt, unmet, refused] = std::array::from_fn(|_| Cell::new(0u32));
        let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        let result = self.runner(config).run(&inputs(cache.specs(), cache.base()), |input| {
            match self.check_case(&Case { cache, input: &input }) {
                CaseResult::Held => count(&held),
                CaseResult::Exempt => count(&exempt),
                CaseResult::Unmet => count(&unmet),
                CaseResult::Refused => count(&refused),
                CaseResult::Broken(message) => return Err(TestCaseError::fail(message)),
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

    fn check_case(&self, case: &Case<'_>) -> CaseResult {
        let plan = match case.plan(&case.script()) {
            Ok(plan) => plan,
            Err(Stop::Refused) => return CaseResult::Refused,
            Err(Stop::Broken(message)) => return CaseResult::Broken(message),
        };
        if self.exempt.iter().any(|capability| capability.is_declared(&plan)) {
            return CaseResult::Exempt;
        }
        match (self.check)(case) {
            Ok(Verdict::Held) => CaseResult::Held,
            Ok(Verdict::Unmet) => CaseResult::Unmet,
            Err(Stop::Refused) => CaseResult::Refused,
            Err(Stop::Broken(message)) => CaseResult::Broken(message),
        }
    }

    /// A runner whose random numbers depend on the seed and the property's name alone.
    fn runner(&self, config: &Config) -> TestRunner {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&config.seed.to_le_bytes());
        self.name.bytes().zip(&mut seed[8..]).for_each(|(byte, place)| *place = byte);
        let runner = RunnerConfig {
            cases: config.cases,
            // The report has the seed, and a library has no folder for a regression file.
            failure_persistence: None,
            max_shrink_iters: config.shrinking,
            ..RunnerConfig::default()
        };
        TestRunner::new_with_rng(runner, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }
}
