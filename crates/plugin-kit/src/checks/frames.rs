//! Which latent frames count in a decision.

use wan_plugin_api::Choice;

use crate::case::{Case, Checked, Stop, Verdict, ensure};
use crate::drive::{Entry, decisions};
use crate::levels::{Levels, with_frozen_prefix};

fn same_choices(what: &str, a: &[Entry], b: &[Entry]) -> Result<(), Stop> {
    let choices = |log: &[Entry]| log.iter().map(|e| e.choice).collect::<Vec<Choice>>();
    ensure!(choices(a) == choices(b), "{} and {} {what}", decisions(a), decisions(b));
    Ok(())
}

pub(crate) fn prefix(case: &Case<'_>) -> Checked {
    let script = case.script();
    let count = case.input.one_of(&[1, 2, 4]);
    let mut behind = script.clone();
    behind.levels = with_frozen_prefix(&script.levels, count, 0.0);
    behind.model.first_frame = count;
    same_choices("behind clean frames", &case.run(&script)?, &case.run(&behind)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn resting(case: &Case<'_>) -> Checked {
    let mut script = case.script();
    script.levels = with_frozen_prefix(&script.levels, 1, 0.0);
    let mut other = script.clone();
    other.model.resting_seed = Some(!script.model.seed);
    other.levels = at_another_level(&script.levels);
    same_choices("with other frames at rest", &case.run(&script)?, &case.run(&other)?)?;
    Ok(Verdict::Held)
}

/// The same levels, except for frames that are never updated again: these move to other levels.
fn at_another_level(levels: &Levels) -> Levels {
    let mut moved = levels.clone();
    for evaluation in 0..levels.len() {
        for frame in 0..levels[evaluation].len() {
            if levels[evaluation..].iter().all(|l| !l[frame].update) {
                let level = &mut moved[evaluation][frame];
                level.timestep += 100.0;
                level.sigma += 0.1;
                level.sigma_next = level.sigma;
            }
        }
    }
    moved
}

pub(crate) fn equal_levels(case: &Case<'_>) -> Checked {
    let mut one = case.script();
    one.levels.iter_mut().for_each(|levels| levels.truncate(1));
    // The first frame alone: without the evaluations after its last update.
    one.levels.retain(|levels| levels[0].update);
    one.model.equal_frames = true;
    // Sums over two equal frames are exactly doubled.
    let mut two = one.clone();
    for levels in &mut two.levels {
        let mut second = levels[0];
        second.frame = 1;
        levels.push(second);
    }
    same_choices("with a second frame like it", &case.run(&one)?, &case.run(&two)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn rows(case: &Case<'_>) -> Checked {
    let script = case.script();
    let plan = case.plan(&script)?;
    let mut dense = script.clone();
    dense.model.rows_per_token = true;
    let (distinct, dense) = (case.run(&script)?, case.run(&dense)?);
    if let Some(gate) = plan.rule.gate {
        // Both are equal in exact arithmetic. A sum on the limit may round to either side.
        let on_the_edge = |m: &f64| (m - gate.below).abs() <= 1e-9 * gate.below.abs();
        if distinct.iter().flat_map(|e| &e.measured).any(on_the_edge) {
            return Ok(Verdict::Unmet);
        }
    }
    same_choices("with a row per token", &distinct, &dense)?;
    for (index, (a, b)) in distinct.iter().zip(&dense).enumerate() {
        let counts = [a.measured.len(), b.measured.len()];
        ensure!(counts[0] == counts[1], "evaluation {index} measured {counts:?} numbers");
        for (a, b) in a.measured.iter().zip(&b.measured) {
            ensure!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "measured {a} and {b}");
        }
    }
    Ok(Verdict::Held)
}
