//! Which frames count, and how.

use wan_plugin_api::Choice;

use crate::drive::{Entry, Script, decisions};
use crate::levels::{Levels, behind_resting};
use crate::trial::{Checked, Stop, Trial, Verdict, ensure};

fn same_choices(what: &str, a: &[Entry], b: &[Entry]) -> Result<(), Stop> {
    let choices = |log: &[Entry]| log.iter().map(|e| e.choice).collect::<Vec<Choice>>();
    ensure!(choices(a) == choices(b), "{} and {} {what}", decisions(a), decisions(b));
    Ok(())
}

pub(crate) fn prefix(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let count = trial.input.one_of(&[1, 2, 4]);
    let mut behind = script.clone();
    behind.levels = behind_resting(&script.levels, count, 0.0);
    behind.world.first_frame = count;
    same_choices("behind clean frames", &trial.run(&script)?, &trial.run(&behind)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn resting(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    script.levels = behind_resting(&script.levels, 1, 0.0);
    let mut other = script.clone();
    other.world.resting_seed = Some(!script.world.seed);
    other.levels = at_another_level(&script.levels);
    same_choices("with other frames at rest", &trial.run(&script)?, &trial.run(&other)?)?;
    Ok(Verdict::Held)
}

/// Frames that do not move any more, at other levels.
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

pub(crate) fn equal_levels(trial: &Trial<'_>) -> Checked {
    let mut one = trial.script();
    one.levels.iter_mut().for_each(|levels| levels.truncate(1));
    // What comes after the frame's end is no evaluation of a stream of it alone.
    one.levels.retain(|levels| levels[0].update);
    one.world.equal_frames = true;
    // Twice as many are summed without rounding.
    let mut two = one.clone();
    for levels in &mut two.levels {
        let mut second = levels[0];
        second.frame = 1;
        levels.push(second);
    }
    same_choices("with a second frame like it", &trial.run(&one)?, &trial.run(&two)?)?;
    Ok(Verdict::Held)
}

pub(crate) fn rows(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let plan = trial.plan(&script)?;
    let mut dense: Script = script.clone();
    dense.world.rows_per_token = true;
    let (distinct, dense) = (trial.run(&script)?, trial.run(&dense)?);
    if let Some(gate) = plan.rule.gate {
        // Equal in exact arithmetic; a sum that falls on its limit may round either way.
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
