//! One object, one stream: nothing outside it, nothing left of it.

use std::time::Instant;

use serde_json::json;
use wan_plugin_api::{Denoise, FrameLevel, OptionValues, Result, SampleRequest, Tensor, TensorOps};
use wan_plugin_kit::VecOps;

use super::run::{FRAME_ELEMENTS, Run, bits, smooth};
use super::scene::{Scene, scenes};
use crate::dice::Dice;
use crate::outcome::{Checked, Outcome, ensure};
use crate::sets;
use crate::subject::{Subject, plain_request};

/// Most microseconds of a step.
const MICROSECONDS_MAX: f64 = 1000.0;

fn run(subject: &Subject, seed: u64) -> Result<Run> {
    Run::new(subject.sampler(&plain_request())?, &plain_request(), seed)
}

pub(super) fn determinism(subject: &Subject) -> Checked {
    let mut runs = 0;
    for scene in scenes(subject)? {
        let once = || -> Checked<Option<Vec<u32>>> {
            let Some(mut run) = scene.start(subject, FRAME_ELEMENTS)? else { return Ok(None) };
            while !run.is_over() {
                scene.round(&mut run, &mut smooth)?;
            }
            Ok(Some(bits(&run.sample)))
        };
        let first = once()?;
        let differ = "gave other bits; a clock, or a global?";
        ensure!(once()? == first, "a second run of the same request {differ} {scene}");
        runs += usize::from(first.is_some());
    }
    Ok(Outcome::pass(format!("{runs} runs repeated")))
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

/// Steps between which what is held must not grow: past any start of a method, and far on.
const STEPS: [u32; 3] = [10, 50, 200];

pub(super) fn handles(subject: &Subject) -> Checked {
    let (defaults, mut most) = (subject.defaults()?, 0);
    let mut sets = sets::one_by_one(&subject.strategy.options, &defaults);
    sets.insert(0, defaults);
    for options in sets {
        let held = held(subject, &options)?;
        if let [few, more, many] = held[..] {
            ensure!(
                many <= more,
                "what is held grows with the steps: {few} bytes after 10, {more} after 50 and \
                 {many} after 200; with {} (seed {})",
                json!(options),
                subject.seed
            );
        }
        most = held.into_iter().fold(most, u64::max);
    }
    Ok(Outcome::pass(format!("at most {most} bytes held between steps")))
}

/// Most bytes held between the steps of a run, for each number of steps; where it is refused, none.
fn held(subject: &Subject, options: &OptionValues) -> Checked<Vec<u64>> {
    let mut all = Vec::new();
    for steps in STEPS {
        let request = SampleRequest { steps, frames: 2, ..plain_request() };
        let scene = Scene::new(subject, request, options.clone())?;
        let Some(mut run) = scene.start(subject, 3)? else { continue };
        let mut most = 0;
        while !run.is_over() {
            scene.round(&mut run, &mut smooth)?;
            most = most.max(run.held());
        }
        let (ops, sample) = run.end();
        let left = ops.live_bytes().saturating_sub(sample.form().bytes);
        ensure!(left == 0, "{left} bytes are still held after the object is gone; {scene}");
        all.push(most);
    }
    Ok(all)
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
        let mut run = Run::of_elements(
            subject.sampler(&plain_request())?,
            &plain_request(),
            subject.seed,
            3,
        )?;
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
