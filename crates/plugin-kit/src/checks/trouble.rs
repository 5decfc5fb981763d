//! Tensors of another shape, and signals with a defect.

use wan_plugin_api::Choice;

use crate::case::{Case, Checked, Verdict, ensure, reuses};
use crate::drive::{Entry, decisions};
use crate::fake_model::Spoilt;

pub(crate) fn shape(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    let at = case.input.index_in(script.levels.len());
    let end = (at + 1 + usize::from(case.input.variant % 4)).min(script.levels.len());
    let fewer_frames = script.levels[0].len() > 1 && case.input.variant.is_multiple_of(2);
    if fewer_frames {
        script.levels[at..end].iter_mut().for_each(|levels| levels.truncate(levels.len() - 1));
    } else {
        script.model.grown = at..end;
    }
    let log = case.run(&script)?;
    for change in [at, end] {
        let computed = log.get(change).is_none_or(|e: &Entry| e.choice == Choice::Compute);
        ensure!(computed, "{}: the shape changed at {change}", decisions(&log));
    }
    Ok(Verdict::Held)
}

const WAYS: [Spoilt; 3] = [Spoilt::NotANumber, Spoilt::Infinite, Spoilt::Zero];

pub(crate) fn spoilt(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    let (at, how) = (case.input.index_in(script.levels.len()), case.input.one_of(&WAYS));
    script.model.spoilt = Some((at, how));
    let log = case.run(&script)?;
    ensure!(log[at].choice == Choice::Compute, "{}: {how:?} at {at}", decisions(&log));
    Ok(Verdict::Held)
}

/// Reuses after which a cache is expected to reuse again.
const OFTEN: usize = 3;

pub(crate) fn recovers(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    let (at, how) = (case.input.index_in(script.levels.len()) / 2, case.input.one_of(&WAYS));
    // The expectation: what a fresh stream does that begins after the defect.
    let mut fresh = script.clone();
    fresh.levels.drain(..=at);
    fresh.model.first_evaluation = at + 1;
    let fresh = case.run(&fresh)?;
    if reuses(&fresh).count() < OFTEN {
        return Ok(Verdict::Unmet);
    }
    script.model.spoilt = Some((at, how));
    let log = case.run(&script)?;
    ensure!(
        reuses(&log).any(|(index, _)| index > at),
        "{}: {how:?} at {at}, and a fresh one after it {}",
        decisions(&log),
        decisions(&fresh)
    );
    Ok(Verdict::Held)
}
