//! What a sampler does when something is wrong.

use wan_plugin_api::testkit::values;
use wan_plugin_api::{Denoise, Error, ErrorKind, FrameLevel, Result, Tensor, TensorOps};

use super::run::{Run, Velocity, smooth};
use crate::plugin_check::outcome::{Checked, Outcome, ensure};
use crate::plugin_check::subject::{Subject, plain_request};

const WRONG: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];

pub(super) fn numbers(subject: &Subject) -> Checked {
    let request = plain_request();
    for wrong in WRONG {
        let mut run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
        let mut sample = values(&run.sample);
        sample[0] = wrong;
        run.sample = run.ops.write_like(&run.sample, &sample)?;
        survives(run, &mut smooth, wrong, "sample")?;
        let run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
        let spoilt = &mut |sample: &[f32], levels: &[FrameLevel]| {
            let mut velocity = smooth(sample, levels);
            velocity[0] = wrong;
            velocity
        };
        survives(run, spoilt, wrong, "velocity")?;
    }
    Ok(Outcome::pass(""))
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
    ops: &'a wan_plugin_api::testkit::VecOps,
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

pub(super) fn errors(subject: &Subject) -> Checked {
    let request = plain_request();
    for error in [Error::cancelled(), Error::failed("the model has no more memory")] {
        for good in 0..4 {
            let mut run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
            let ops = std::mem::take(&mut run.ops);
            let mut model = Failing { ops: &ops, good, error: error.clone() };
            let end = loop {
                match run.is_over() {
                    true => break None,
                    false => match run.round_with(&mut model, &ops) {
                        Ok(_) => {}
                        Err(said) => break Some(said),
                    },
                }
            };
            let Some(said) = end else {
                ensure!(
                    model.good > 0,
                    "the model said {error:?}, and the step went on without it"
                );
                continue;
            };
            ensure!(
                said.kind == error.kind,
                "the model said {:?}, and the step said {:?} ({said}); pass errors on with `?`",
                error.kind,
                said.kind
            );
        }
    }
    Ok(Outcome::pass(""))
}
