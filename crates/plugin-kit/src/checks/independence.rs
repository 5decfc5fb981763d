//! What decisions depend on, and what they must not depend on.

use wan_plugin_api::Choice;

use crate::case::{Case, Checked, Stop, Verdict, ensure, failed, held_if, last_computed};
use crate::drive::{Driver, Entry, decisions};
use crate::script::Script;
use crate::vec_ops::VecOps;

/// `Stop::Broken` unless two logs have the same choices and measured numbers.
fn decide_alike(a: &[Entry], b: &[Entry]) -> Result<(), Stop> {
    let choices = a.iter().map(|e| e.choice).eq(b.iter().map(|e| e.choice));
    let measured = a.iter().map(|e| &e.measured).eq(b.iter().map(|e| &e.measured));
    ensure!(choices, "{} and {}", decisions(a), decisions(b));
    ensure!(measured, "{} with other numbers", decisions(a));
    Ok(())
}

pub(crate) fn repeats(case: &Case<'_>) -> Checked {
    let script = case.script();
    let first = case.run(&script)?;
    let again = case.run(&script)?;
    decide_alike(&first, &again)?;
    ensure!(first == again, "{} with other tensors", decisions(&first));
    Ok(Verdict::Held)
}

pub(crate) fn interleaved(case: &Case<'_>) -> Checked {
    let first = case.script();
    let first_alone = case.run(&first)?;
    let second = case.other_branch(&first, &first_alone)?;
    let second_alone = case.run(&second)?;
    let mut drivers = [case.driver(&first)?, case.driver(&second)?];
    for turn in case.input.order.iter().copied().map(usize::from) {
        if !drivers[turn].is_over() {
            drivers[turn].evaluate().map_err(failed)?;
        }
    }
    let finish = |mut driver: Driver<'_, VecOps>| driver.run().map(|()| driver.end().0);
    for (alone, driver) in [first_alone, second_alone].into_iter().zip(drivers) {
        let together = finish(driver).map_err(failed)?;
        decide_alike(&alone, &together)?;
        ensure!(alone == together, "{} with other tensors", decisions(&alone));
    }
    Ok(Verdict::Held)
}

pub(crate) fn schedule_only(case: &Case<'_>) -> Checked {
    let script = case.script();
    let mut other = script.clone();
    other.model.seed = !script.model.seed;
    decide_alike(&case.run(&script)?, &case.run(&other)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn branches(case: &Case<'_>) -> Checked {
    let script = case.script();
    let other = Script { branch: "uncond", ..script.clone() };
    decide_alike(&case.run(&script)?, &case.run(&other)?)?;
    Ok(Verdict::Held)
}

/// Measured evaluations that are enough to tell two columns of numbers apart.
const MANY: usize = 5;

pub(crate) fn own_numbers(case: &Case<'_>) -> Checked {
    let script = case.script();
    let other = Script { branch: "uncond", ..script.clone() };
    let (cond, uncond) = (case.run(&script)?, case.run(&other)?);
    let measured =
        |log: &[Entry]| log.iter().filter(|e| e.measured.iter().any(|m| *m != 0.0)).count();
    // Two columns of a table may agree in a few entries.
    if measured(&cond).min(measured(&uncond)) < MANY {
        return Ok(Verdict::Unmet);
    }
    let same = cond.iter().map(|e| &e.measured).eq(uncond.iter().map(|e| &e.measured));
    ensure!(!same, "{} with the same numbers on both branches", decisions(&cond));
    Ok(Verdict::Held)
}

pub(crate) fn scale(case: &Case<'_>) -> Checked {
    let script = case.script();
    let mut scaled = script.clone();
    scaled.model.scale = case.input.one_of(&[0.125, 0.5, 2.0, 16.0]);
    let (plain, scaled) = (case.run(&script)?, case.run(&scaled)?);
    let choices = plain.iter().map(|e| e.choice).eq(scaled.iter().map(|e| e.choice));
    ensure!(choices, "{} and scaled {}", decisions(&plain), decisions(&scaled));
    Ok(Verdict::Held)
}

pub(crate) fn follower(case: &Case<'_>) -> Checked {
    let choice = |reuse: &bool| if *reuse { Choice::Reuse } else { Choice::Compute };
    let leaders: Vec<Choice> = case.input.order.iter().cycle().take(32).map(choice).collect();
    let script = Script { branch: "uncond", leaders, ..case.script() };
    let log = case.run(&script)?;
    for (index, entry) in log.iter().enumerate() {
        let leader = script.leaders[index];
        let can_reuse = last_computed(&log, index).is_some_and(|e| e.kept);
        let expected = if can_reuse { leader } else { Choice::Compute };
        ensure!(
            entry.choice == expected,
            "evaluation {index} of {}: the leader chose {leader:?}",
            decisions(&log)
        );
    }
    Ok(held_if(log.iter().any(|e| e.kept)))
}
