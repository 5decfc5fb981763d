//! Caches: the invariants of `wan_plugin_kit::PROPERTIES`, and what a decision costs.

use std::time::{Duration, Instant};

use wan_plugin_api::{Choice, ErrorKind};
use wan_plugin_kit::{
    CacheUnderTest, Config, FakeModel, PROPERTIES, Property, Script, VecOps, drive, side_by_side,
};

use super::outcome::{Checked, Failed, Outcome};
use super::sets;
use super::subject::{Subject, plain_script};
use super::test::Test;

/// Random streams for each invariant.
const CASES: u32 = 64;

/// Attempts at making a failing stream smaller: enough to read it, few enough for the time limit.
const SHRINKING: u32 = 100;

/// Most microseconds of a decision.
const MICROSECONDS_MAX: f64 = 1000.0;

pub(super) fn check(test: Test, subject: &Subject) -> Checked {
    if let Some(refusal) = refusal(subject)? {
        return Ok(refusal);
    }
    match test {
        Test::CacheCost => cost(subject),
        _ => invariants(test, subject),
    }
}

/// A cache may know a few models only; then there is nothing to see here.
fn refusal(subject: &Subject) -> Checked<Option<Outcome>> {
    match CacheUnderTest::new(subject.library, &subject.strategy.id) {
        Ok(_) => Ok(None),
        Err(error) if error.kind == ErrorKind::Invalid => {
            Ok(Some(Outcome::skipped(format!("it refuses the small model of this check: {error}"))))
        }
        Err(error) => Err(error.into()),
    }
}

/// The test that an invariant belongs to; one that is new in the kit belongs to the rules.
fn home(property: &Property) -> Test {
    match property.name {
        "first" | "answers" | "form" | "stored" | "newest" => Test::CacheReuse,
        "declared" | "exact" | "place" | "half-bytes" => Test::CacheMemory,
        "repeats" => Test::CacheDeterminism,
        "interleaved" => Test::CacheInstances,
        "shape" | "spoilt" | "recovers" => Test::CacheNumbers,
        _ => Test::CacheRules,
    }
}

fn invariants(test: Test, subject: &Subject) -> Checked {
    // Together, so that a cache at half width lies beside the one that it is the half of.
    let subjects = CacheUnderTest::all(&[subject.library]);
    let cache = subjects
        .ok()
        .and_then(|all| all.into_iter().find(|s| s.id() == subject.strategy.id))
        .map_or_else(|| CacheUnderTest::new(subject.library, &subject.strategy.id), Ok)?;
    let config = Config { cases: CASES, seed: subject.seed, shrinking: SHRINKING };
    let (mut held, mut broken) = (Vec::new(), Vec::new());
    for property in PROPERTIES.iter().filter(|p| home(p) == test) {
        let finding = property.check_on(&cache, &config);
        if finding.held > 0 {
            held.push(property.name);
        }
        if let Some(found) = finding.broken {
            broken.push(format!(
                "{}: {} ({}; seed {}, with {:.300})",
                property.name, property.statement, found.message, found.seed, found.input
            ));
        }
    }
    if test == Test::CacheReuse && broken.is_empty() && !ever_reuses(subject, &cache)? {
        return Ok(Outcome::warn(NEVER));
    }
    match (broken.is_empty(), held.is_empty()) {
        (false, _) => Err(Failed(broken.join("; "))),
        (true, true) => Ok(Outcome::skipped("its plan exempts it, or no stream met the premise")),
        (true, false) => Ok(Outcome::pass(held.join(", "))),
    }
}

/// Said of a cache that is sound, and of no use.
const NEVER: &str =
    "it never reused anything, at its defaults and with each option at other values";

/// Evaluations of the streams in which a cache has the time to reuse something.
const EVALUATIONS: [usize; 2] = [12, 60];

/// Whether it ever reuses.
fn ever_reuses(subject: &Subject, cache: &CacheUnderTest) -> Checked<bool> {
    let defaults = subject.defaults()?;
    let mut sets = sets::one_by_one(&subject.strategy.options, &defaults);
    sets.insert(0, defaults);
    for evaluations in EVALUATIONS {
        let levels = side_by_side(2, evaluations, 10.0);
        let script = Script::new(levels, FakeModel::new(subject.seed));
        let own = cache.create(cache.base(), &script.context());
        let others = sets.iter().map(|set| subject.cache_with(set, &script.context()));
        // One that refuses an option has another set to show itself with.
        for object in std::iter::once(own).chain(others).filter_map(Result::ok) {
            let (log, _) = drive(object, VecOps::default(), &script)?;
            if log.iter().any(|entry| entry.choice == Choice::Reuse) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn microseconds_each(elapsed: Duration, evaluations: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / evaluations as f64
}

fn cost(subject: &Subject) -> Checked {
    let cache = CacheUnderTest::new(subject.library, &subject.strategy.id)?;
    let script = plain_script(subject.seed);
    let evaluations = script.levels.len();
    let mut fastest = f64::MAX;
    // The fastest of a few: a busy machine slows some of them down.
    for _ in 0..5 {
        let object = cache.create(cache.base(), &script.context())?;
        let started = Instant::now();
        drive(object, VecOps::default(), &script)?;
        fastest = fastest.min(microseconds_each(started.elapsed(), evaluations));
    }
    let facts = format!("{fastest:.0} us for each evaluation");
    match fastest < MICROSECONDS_MAX {
        true => Ok(Outcome::pass(facts)),
        false => Ok(Outcome::warn(format!("{facts}, on tensors of a few numbers"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_over_a_thousand_evaluations_is_a_millisecond_each() {
        assert_eq!(microseconds_each(Duration::from_secs(1), 1000), 1000.);
    }
}
