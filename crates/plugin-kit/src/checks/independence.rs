//! What a decision does not depend on, and what it does.

use wan_plugin_api::Choice;

use crate::drive::{Entry, Script, Stream, decisions};
use crate::levels::falling;
use crate::trial::{Checked, Stop, Trial, Verdict, ensure, failed, held_if, last_computed};
use crate::vec_ops::VecOps;

/// Breaks unless two logs show the same decisions and numbers.
fn decide_alike(a: &[Entry], b: &[Entry]) -> Result<(), Stop> {
    let choices = a.iter().map(|e| e.choice).eq(b.iter().map(|e| e.choice));
    let measured = a.iter().map(|e| &e.measured).eq(b.iter().map(|e| &e.measured));
    ensure!(choices, "{} and {}", decisions(a), decisions(b));
    ensure!(measured, "{} with other numbers", decisions(a));
    Ok(())
}

pub(crate) fn repeats(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let first = trial.run(&script)?;
    let again = trial.run(&script)?;
    decide_alike(&first, &again)?;
    ensure!(first == again, "{} with other tensors", decisions(&first));
    Ok(Verdict::Held)
}

pub(crate) fn interleaved(trial: &Trial<'_>) -> Checked {
    let first = trial.script();
    let shared = trial.plan(&first)?.shared_decision;
    let first_alone = trial.run(&first)?;
    let mut second = Script { branch: "uncond", ..first.clone() };
    second.world.seed = !first.world.seed;
    match shared {
        true => second.leaders = first_alone.iter().map(|e| e.choice).collect(),
        false => second.levels = falling(&trial.input.other),
    }
    let second_alone = trial.run(&second)?;
    let mut streams = [trial.stream(&first)?, trial.stream(&second)?];
    for turn in trial.input.order.iter().copied().map(usize::from) {
        if !streams[turn].is_over() {
            streams[turn].evaluate().map_err(failed)?;
        }
    }
    let finish = |stream: Stream<'_, VecOps>| stream.run().map(|s| s.end().0).map_err(failed);
    let [first_stream, second_stream] = streams;
    for (alone, together) in
        [(first_alone, finish(first_stream)?), (second_alone, finish(second_stream)?)]
    {
        decide_alike(&alone, &together)?;
        ensure!(alone == together, "{} with other tensors", decisions(&alone));
    }
    Ok(Verdict::Held)
}

pub(crate) fn schedule_only(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let mut other = script.clone();
    other.world.seed = !script.world.seed;
    decide_alike(&trial.run(&script)?, &trial.run(&other)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn branches(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let other = Script { branch: "uncond", ..script.clone() };
    decide_alike(&trial.run(&script)?, &trial.run(&other)?)?;
    Ok(Verdict::Held)
}

/// Evaluations with numbers that count as many.
const MANY: usize = 5;

pub(crate) fn own_numbers(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let other = Script { branch: "uncond", ..script.clone() };
    let (cond, uncond) = (trial.run(&script)?, trial.run(&other)?);
    let measured =
        |log: &[Entry]| log.iter().filter(|e| e.measured.iter().any(|m| *m != 0.0)).count();
    // Two columns of a table may well agree in a few places.
    if measured(&cond).min(measured(&uncond)) < MANY {
        return Ok(Verdict::Unmet);
    }
    let same = cond.iter().map(|e| &e.measured).eq(uncond.iter().map(|e| &e.measured));
    ensure!(!same, "{} with the same numbers on both branches", decisions(&cond));
    Ok(Verdict::Held)
}

pub(crate) fn scale(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let mut scaled = script.clone();
    scaled.world.scale = trial.input.one_of(&[0.125, 0.5, 2.0, 16.0]);
    let (plain, scaled) = (trial.run(&script)?, trial.run(&scaled)?);
    let choices = plain.iter().map(|e| e.choice).eq(scaled.iter().map(|e| e.choice));
    ensure!(choices, "{} and scaled {}", decisions(&plain), decisions(&scaled));
    Ok(Verdict::Held)
}

pub(crate) fn follower(trial: &Trial<'_>) -> Checked {
    let choice = |reuse: &bool| if *reuse { Choice::Reuse } else { Choice::Compute };
    let leaders: Vec<Choice> = trial.input.order.iter().cycle().take(32).map(choice).collect();
    let script = Script { branch: "uncond", leaders, ..trial.script() };
    let log = trial.run(&script)?;
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
