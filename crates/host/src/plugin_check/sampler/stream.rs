//! One object, one stream: nothing outside it, nothing left of it.

use std::time::Instant;

use wan_plugin_api::testkit::VecOps;
use wan_plugin_api::{Denoise, FrameLevel, Result, Tensor, TensorOps};

use super::run::{Run, bits};
use crate::plugin_check::dice::Dice;
use crate::plugin_check::outcome::{Checked, Outcome, ensure};
use crate::plugin_check::subject::{Subject, plain_request};

/// Most microseconds of a step.
const MICROSECONDS_MAX: f64 = 1000.0;

fn run(subject: &Subject, seed: u64) -> Result<Run> {
    Run::new(subject.sampler(&plain_request())?, &plain_request(), seed)
}

pub(super) fn determinism(subject: &Subject) -> Checked {
    let first = run(subject, subject.seed)?.bits()?;
    for again in 1..4 {
        let same = first == run(subject, subject.seed)?.bits()?;
        ensure!(same, "run {again} of the same request gave other bits; a clock, or a global?");
    }
    Ok(Outcome::pass(""))
}

pub(super) fn instances(subject: &Subject) -> Checked {
    let seeds = [subject.seed, subject.seed ^ 0x5eed];
    let alone = [run(subject, seeds[0])?.bits()?, run(subject, seeds[1])?.bits()?];
    let mut dice = Dice::new(subject.seed, "turns");
    let mut runs = [run(subject, seeds[0])?, run(subject, seeds[1])?];
    while runs.iter().any(|run| !run.is_over()) {
        let turn = &mut runs[dice.below(2)];
        if !turn.is_over() {
            turn.round()?;
        }
    }
    for (run, alone) in runs.iter().zip(&alone) {
        ensure!(
            bits(&run.sample) == *alone,
            "two objects that take turns do not give the bits that each gives alone; keep all \
             state in the object"
        );
    }
    Ok(Outcome::pass(""))
}

pub(super) fn handles(subject: &Subject) -> Checked {
    let mut run = run(subject, subject.seed)?;
    let mut most = 0;
    while !run.is_over() {
        run.round()?;
        most = most.max(run.ops.live_bytes().saturating_sub(run.sample.form().bytes));
    }
    let (ops, sample) = run.end();
    let left = ops.live_bytes().saturating_sub(sample.form().bytes);
    ensure!(left == 0, "{left} bytes are still held after the object is gone");
    Ok(Outcome::pass(format!("at most {most} bytes held between steps")))
}

/// A model that costs next to nothing.
struct Free;

impl Denoise for Free {
    fn velocity(&mut self, sample: &Tensor, _: &[FrameLevel]) -> Result<Tensor> {
        Ok(sample.clone())
    }
}

pub(super) fn cost(subject: &Subject) -> Checked {
    let mut fastest = f64::MAX;
    // The fastest of a few: a busy machine slows some of them down.
    for _ in 0..5 {
        let mut run = run(subject, subject.seed)?;
        let rounds = run.schedule.rounds.len();
        let ops = VecOps::default();
        let sample = run.ops.read(&run.sample)?;
        run.sample = ops.tensor(run.sample.form().frames as usize, &sample);
        let started = Instant::now();
        while !run.is_over() {
            run.round_with(&mut Free, &ops)?;
        }
        fastest = fastest.min(started.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    }
    let facts = format!("{fastest:.0} us for each step");
    match fastest < MICROSECONDS_MAX {
        true => Ok(Outcome::pass(facts)),
        false => Ok(Outcome::warn(format!("{facts}, on tensors of a few numbers"))),
    }
}
