//! Tensors of another shape, and signals that say nothing.

use wan_plugin_api::Choice;

use crate::drive::{Entry, decisions};
use crate::trial::{Checked, Trial, Verdict, ensure, reuses};
use crate::world::Spoilt;

pub(crate) fn shape(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    let at = trial.input.index_in(script.levels.len());
    let end = (at + 1 + usize::from(trial.input.variant % 4)).min(script.levels.len());
    let fewer_frames = script.levels[0].len() > 1 && trial.input.variant.is_multiple_of(2);
    match fewer_frames {
        true => {
            script.levels[at..end].iter_mut().for_each(|levels| levels.truncate(levels.len() - 1))
        }
        false => script.world.grown = at..end,
    }
    let log = trial.run(&script)?;
    for change in [at, end] {
        let computed = log.get(change).is_none_or(|e: &Entry| e.choice == Choice::Compute);
        ensure!(computed, "{}: the shape changed at {change}", decisions(&log));
    }
    Ok(Verdict::Held)
}

const WAYS: [Spoilt; 3] = [Spoilt::NotANumber, Spoilt::Infinite, Spoilt::Zero];

pub(crate) fn spoilt(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    let (at, how) = (trial.input.index_in(script.levels.len()), trial.input.one_of(&WAYS));
    script.world.spoilt = Some((at, how));
    let log = trial.run(&script)?;
    ensure!(log[at].choice == Choice::Compute, "{}: {how:?} at {at}", decisions(&log));
    Ok(Verdict::Held)
}

/// Reuses that count as often.
const OFTEN: usize = 3;

pub(crate) fn recovers(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    let (at, how) = (trial.input.index_in(script.levels.len()) / 2, trial.input.one_of(&WAYS));
    // What can be expected afterwards: what a stream does that begins there.
    let mut fresh = script.clone();
    fresh.levels.drain(..=at);
    fresh.world.first_evaluation = at + 1;
    let fresh = trial.run(&fresh)?;
    if reuses(&fresh).count() < OFTEN {
        return Ok(Verdict::Unmet);
    }
    script.world.spoilt = Some((at, how));
    let log = trial.run(&script)?;
    ensure!(
        reuses(&log).any(|(index, _)| index > at),
        "{}: {how:?} at {at}, and a fresh one after it {}",
        decisions(&log),
        decisions(&fresh)
    );
    Ok(Verdict::Held)
}
