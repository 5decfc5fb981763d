//! What a sampler does when something is wrong.

use wan_plugin_api::{
    Denoise, Error, ErrorKind, FrameLevel, Result, SampleRequest, Tensor, TensorOps,
};
use wan_plugin_kit::values;

use super::run::{Run, Velocity, smooth};
use crate::outcome::{Checked, Failed, Outcome, ensure};
use crate::subject::{Subject, plain_request};

const WRONG: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];

pub(super) fn numbers(subject: &Subject) -> Checked {
    let request = plain_request();
    for wrong in WRONG {
        for (place, halves) in PLACES {
            let mut run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
            let mut sample = values(&run.sample);
            spoil(&mut sample, halves, wrong);
            run.sample = run.ops.write_like(&run.sample, &sample)?;
            survives(run, &mut smooth, wrong, &format!("{place} element of the sample"))?;
            let run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
            let spoilt = &mut |sample: &[f32], levels: &[FrameLevel]| {
                let mut velocity = smooth(sample, levels);
                spoil(&mut velocity, halves, wrong);
                velocity
            };
            survives(run, spoilt, wrong, &format!("{place} element of the velocity"))?;
        }
    }
    Ok(Outcome::pass(""))
}

/// Which element is wrong, in halves of the way to the last.
const PLACES: [(&str, usize); 3] = [("first", 0), ("middle", 1), ("last", 2)];

fn spoil(elements: &mut [f32], halves: usize, wrong: f32) {
    let at = elements.len().saturating_sub(1) * halves / 2;
    if let Some(element) = elements.get_mut(at) {
        *element = wrong;
    }
}

/// Goes on, or says so; the host stops a run whose numbers are lost.
fn survives(mut run: Run, velocity: &mut Velocity<'_>, wrong: f32, place: &str) -> Checked<()> {
    while !run.is_over() {
        match run.round_of(velocity) {
            Ok(_) => {}
            Err(error) => {
                ensure!(error.kind != ErrorKind::Panicked, "{error}; with {wrong} in the {place}");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A model that answers `good` times, and then not.
struct Failing<'a> {
    ops: &'a wan_plugin_kit::VecOps,
    good: u32,
    error: Error,
}

impl Denoise for Failing<'_> {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor> {
        if self.good == 0 {
            return Err(self.error.clone());
        }
        self.good -= 1;
        Ok(self.ops.tensor(levels.len(), &smooth(&values(sample), levels)))
    }
}

/// Steps of runs that are stopped at each of their evaluations.
const STEPS: [u32; 2] = [8, 30];

pub(super) fn errors(subject: &Subject) -> Checked {
    let mut stopped = 0;
    for steps in STEPS {
        let request = SampleRequest { steps, ..plain_request() };
        let all = subject.sampler(&request)?.whole_schedule()?.evaluations();
        for error in [Error::cancelled(), Error::failed("the model has no more memory")] {
            for good in 0..all {
                stop(subject, &request, good, &error)?;
                stopped += 1;
            }
        }
    }
    Ok(Outcome::pass(format!("stopped at {stopped} evaluations")))
}

/// A run whose model answers `good` times must end with what the model says then.
fn stop(subject: &Subject, request: &SampleRequest, good: u32, error: &Error) -> Checked<()> {
    let mut run = Run::new(subject.sampler(request)?, request, subject.seed)?;
    let ops = std::mem::take(&mut run.ops);
    let mut model = Failing { ops: &ops, good, error: error.clone() };
    while !run.is_over() {
        let Err(said) = run.round_with(&mut model, &ops) else { continue };
        ensure!(
            said.kind == error.kind,
            "the model said {:?} at evaluation {good}, and the step said {:?} ({said}); pass errors \
             on with `?`",
            error.kind,
            said.kind
        );
        return Ok(());
    }
    Err(Failed(format!(
        "the model said {error:?} at evaluation {good}, and the run went on without it"
    )))
}
