//! Options: defaults, random values, and what no user should write.

use serde_json::{Value, json};
use wan_plugin_api::{ErrorKind, OptionValues, Result};

use super::dice::Dice;
use super::outcome::{Checked, Outcome, ensure};
use super::sampler::Run;
use super::sets;
use super::subject::{Subject, plain_request, plain_script};
use super::test::Scope;

/// Random sets of options.
const SETS: usize = 200;

pub(super) fn check(subject: &Subject) -> Checked {
    for spec in &subject.strategy.options {
        ensure!(
            spec.check(&spec.default).is_ok(),
            "option {}: its default {} is not {}",
            spec.name,
            spec.default,
            spec.allowed()
        );
    }
    let (accepted, sets) = in_range(subject)?;
    if let Some(warning) = absurd(subject)? {
        return Ok(warning);
    }
    match accepted {
        0 if sets > 0 => Ok(Outcome::warn(format!("all of {sets} sets of options were refused"))),
        accepted => Ok(Outcome::pass(format!("{accepted} of {sets} sets accepted"))),
    }
}

/// Sets within the declared ranges, of how many and how many accepted: accepted or refused, never
/// a panic.
fn in_range(subject: &Subject) -> Checked<(usize, usize)> {
    let (specs, defaults) = (&subject.strategy.options, subject.defaults()?);
    let mut dice = Dice::new(subject.seed, &subject.strategy.id);
    let mut sets = sets::one_by_one(specs, &defaults);
    sets.extend((0..SETS).map(|_| sets::at_random(specs, &defaults, &mut dice)));
    sets.retain(|options| *options != defaults);
    let mut accepted = 0;
    for options in &sets {
        match use_them(subject, options) {
            Ok(()) => accepted += 1,
            Err(error) => {
                ensure!(
                    error.kind == ErrorKind::Invalid,
                    "{error}; with {}, which are in range (seed {})",
                    json!(options),
                    subject.seed
                );
            }
        }
    }
    Ok((accepted, sets.len()))
}

/// What the host does not let through, and another program might: better refused than a panic.
fn absurd(subject: &Subject) -> Checked<Option<Outcome>> {
    let defaults = subject.defaults()?;
    let mut sets = vec![OptionValues::new()];
    let mut unknown = defaults.clone();
    unknown.insert("there_is_no_such_option".into(), json!(1));
    sets.push(unknown);
    for spec in &subject.strategy.options {
        for value in [
            Value::Null,
            json!(i64::MIN),
            json!(u64::MAX),
            json!(-1),
            json!(0),
            json!(1e308),
            json!(-1e308),
            json!("\u{0}\u{1f4a3}"),
            json!(vec![1e308; 1000]),
            json!({ "a": [] }),
        ] {
            let mut options = defaults.clone();
            options.insert(spec.name.clone(), value);
            sets.push(options);
        }
    }
    for options in sets {
        let end = make(subject, &options).map_err(|error| (error.kind, error));
        if let Err((ErrorKind::Panicked, error)) = end {
            let given = json!(options).to_string();
            return Ok(Some(Outcome::warn(format!(
                "{error}; with {given:.200}, which the host does not let through"
            ))));
        }
    }
    Ok(None)
}

/// Makes the object and takes its first steps.
fn use_them(subject: &Subject, options: &OptionValues) -> Result<()> {
    if subject.scope == Scope::Sampler {
        let sampler = subject.sampler_with(options, &plain_request())?;
        return Run::new(sampler, &plain_request(), subject.seed)?.some_rounds(2);
    }
    make(subject, options)
}

fn make(subject: &Subject, options: &OptionValues) -> Result<()> {
    if subject.scope == Scope::Sampler {
        // A schedule is as much as an absurd option may reach.
        let sampler = subject.sampler_with(options, &plain_request())?;
        return sampler.schedule_from(0).map(drop);
    }
    subject.cache_with(options, &plain_script(subject.seed).context()).map(drop)
}
