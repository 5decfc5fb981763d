//! What is held, and where.

use crate::levels::side_by_side;
use crate::trial::{Checked, Trial, Verdict, ensure, failed, reuses};

pub(crate) fn declared(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    let declared = trial.plan(&script)?.bytes_max;
    let (log, left) = trial.stream(&script)?.run().map_err(failed)?.end();
    for (index, entry) in log.iter().enumerate() {
        ensure!(
            entry.held <= declared,
            "{} bytes held after evaluation {index}, declared are {declared}",
            entry.held
        );
    }
    ensure!(left == 0, "{left} bytes held after the end");
    Ok(Verdict::Held)
}

/// Kept evaluations after which a memory is taken to be full.
const KEPT: usize = 4;

pub(crate) fn exact(trial: &Trial<'_>) -> Checked {
    let mut script = trial.script();
    let frames = trial.input.frames.len() as u32;
    script.levels = side_by_side(frames, 20, trial.input.one_of(&[0.0, 10.0]));
    let declared = trial.plan(&script)?.bytes_max;
    let log = trial.run(&script)?;
    let kept = log.iter().filter(|e| e.kept).count();
    if kept < KEPT || reuses(&log).next().is_none() {
        return Ok(Verdict::Unmet);
    }
    let most = log.iter().map(|e| e.held).max().unwrap_or(0);
    ensure!(most == declared, "{most} bytes held at most, declared are {declared}");
    Ok(Verdict::Held)
}

pub(crate) fn place(trial: &Trial<'_>) -> Checked {
    let script = trial.script();
    for (index, entry) in trial.run(&script)?.iter().enumerate() {
        ensure!(
            entry.misplaced == 0,
            "{} bytes not in {:?} after evaluation {index}",
            entry.misplaced,
            script.world.keep
        );
    }
    Ok(Verdict::Held)
}
