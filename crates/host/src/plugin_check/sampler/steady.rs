//! What a sampler does with good input.

use wan_plugin_api::testkit::values;
use wan_plugin_api::{ErrorKind, FrameLevel, SampleRequest};

use super::run::{Moved, Run, bits, smooth};
use crate::plugin_check::outcome::{Checked, Outcome, ensure};
use crate::plugin_check::subject::{Subject, plain_request};

const STEPS: [u32; 8] = [1, 2, 3, 5, 8, 50, 333, 1000];
const FRAMES: [u32; 5] = [1, 2, 5, 21, 81];

/// Farthest from the exact end of a constant velocity.
const CONSTANT_ERROR_MAX: f32 = 1e-3;

/// Requests of every size; the plain one first, which nobody may refuse.
fn requests() -> Vec<SampleRequest> {
    let plain = plain_request();
    let steps = STEPS.map(|steps| SampleRequest { steps, ..plain.clone() });
    let frames =
        FRAMES.map(|frames| SampleRequest { frames, window_frames: frames, ..plain.clone() });
    let shifts = [1.0, 0.2, 17.0].map(|shift| SampleRequest { shift, ..plain.clone() });
    let prefixes = [1, 4].map(|prefix_frames| SampleRequest { prefix_frames, ..plain.clone() });
    let long = SampleRequest { frames: 41, window_frames: 21, ..plain.clone() };
    [vec![plain], steps.into(), frames.into(), shifts.into(), prefixes.into(), vec![long]].concat()
}

pub(super) fn schedule(subject: &Subject) -> Checked {
    let (mut served, mut refused) = (0, 0);
    for request in requests() {
        let made = subject.sampler(&request).and_then(|sampler| sampler.schedule());
        let schedule = match made {
            Ok(schedule) => schedule,
            Err(error) => {
                let may = error.kind == ErrorKind::Invalid && request != plain_request();
                ensure!(may, "{error}; for {request:?}");
                refused += 1;
                continue;
            }
        };
        let checked = schedule.check(request.frames as usize, request.prefix_frames as usize);
        ensure!(
            checked.is_ok(),
            "{}; for {request:?}",
            checked.err().map_or_else(String::new, |e| e.message)
        );
        served += 1;
    }
    Ok(Outcome::pass(format!("{served} requests served, {refused} refused")))
}

pub(super) fn shapes(subject: &Subject) -> Checked {
    let mut rounds = 0;
    for (request, frame_elements) in sizes() {
        let Some(mut run) = start(subject, &request, frame_elements)? else { continue };
        while !run.is_over() {
            let moved = run.round();
            let moved = match moved {
                Ok(moved) => moved,
                Err(error) => {
                    ensure!(false, "round {rounds}: {error}; for {request:?}");
                    continue;
                }
            };
            check_form(&moved, frame_elements, &request)?;
            rounds += 1;
        }
    }
    Ok(Outcome::pass(format!("{rounds} rounds")))
}

/// Requests, and how many elements a frame has.
fn sizes() -> Vec<(SampleRequest, usize)> {
    let plain = plain_request();
    let of = |steps, frames, elements| {
        (SampleRequest { steps, frames, window_frames: frames, ..plain.clone() }, elements)
    };
    vec![
        of(8, 5, 3),
        of(1, 1, 1),
        of(2, 1, 3),
        of(3, 2, 3),
        of(4, 81, 2),
        of(50, 5, 3),
        of(300, 2, 2),
        of(3, 21, 16 * 1024),
    ]
}

fn check_form(moved: &Moved, frame_elements: usize, request: &SampleRequest) -> Checked<()> {
    let (form, round) = (moved.after.form(), &moved.round);
    let (frames, elements) = (form.frames as usize, form.frame_elements as usize);
    ensure!(
        (frames, elements) == (round.len(), frame_elements),
        "a step gave {frames} frames of {elements} elements, it was given {} of {frame_elements}",
        round.len()
    );
    ensure!(
        moved.evaluations == round.evaluations,
        "a step asked the model {} times, its round declares {}; for {request:?}",
        moved.evaluations,
        round.evaluations
    );
    ensure!(
        values(&moved.after).iter().all(|x| x.is_finite()),
        "a step gave numbers that are not finite; for {request:?}"
    );
    Ok(())
}

/// The run of a request; none where the sampler refuses it as it may.
fn start(subject: &Subject, request: &SampleRequest, elements: usize) -> Checked<Option<Run>> {
    match subject.sampler(request) {
        Ok(sampler) => Ok(Some(Run::of_elements(sampler, request, subject.seed, elements)?)),
        Err(error) if error.kind == ErrorKind::Invalid && *request != plain_request() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn frozen(subject: &Subject) -> Checked {
    let plain = plain_request();
    let mut seen = 0;
    for request in [
        plain.clone(),
        SampleRequest { prefix_frames: 1, ..plain.clone() },
        SampleRequest { prefix_frames: 3, ..plain.clone() },
        SampleRequest { frames: 41, window_frames: 21, ..plain },
    ] {
        let Some(mut run) = start(subject, &request, 3)? else { continue };
        while !run.is_over() {
            let moved = run.round()?;
            let after = bits(&moved.after);
            for (place, level) in moved.round.levels.iter().enumerate().filter(|(_, l)| !l.update) {
                let range = place * 3..place * 3 + 3;
                let kept = range.clone().all(|i| after.get(i) == Some(&moved.before[i].to_bits()));
                ensure!(kept, "frame {} is not moved, and changed; for {request:?}", level.frame);
                seen += 1;
            }
        }
    }
    match seen {
        0 => Ok(Outcome::skipped("it refuses clean frames at the start, and freezes none")),
        seen => Ok(Outcome::pass(format!("{seen} frozen frames"))),
    }
}

pub(super) fn constant(subject: &Subject) -> Checked {
    let request = plain_request();
    let mut run = Run::new(subject.sampler(&request)?, &request, subject.seed)?;
    if adds_noise(subject, &request)? {
        return Ok(Outcome::skipped("it adds noise"));
    }
    let constant = |sample: &[f32], _: &[FrameLevel]| vec![0.7; sample.len()];
    let start = values(&run.sample);
    while !run.is_over() {
        run.round_of(&mut constant.clone())?;
    }
    // From sigma 1 to 0 along a constant slope.
    let error = |(end, start): (&f32, &f32)| (end - (start - 0.7)).abs();
    let worst = values(&run.sample).iter().zip(&start).map(error).fold(0f32, f32::max);
    ensure!(
        worst <= CONSTANT_ERROR_MAX,
        "a constant velocity of 0.7 from sigma 1 to 0 ends {worst} away from the exact result; \
         `velocity` is d sample / d sigma"
    );
    Ok(Outcome::pass(format!("within {worst:e}")))
}

/// Whether another seed of the noise gives another result from the same start.
fn adds_noise(subject: &Subject, request: &SampleRequest) -> Checked<bool> {
    let end = |noise_seed| {
        let mut run = Run::new(subject.sampler(request)?, request, subject.seed)?;
        run.ops.seed = noise_seed;
        while !run.is_over() {
            run.round_of(&mut smooth)?;
        }
        Ok::<_, wan_plugin_api::Error>(bits(&run.sample))
    };
    Ok(end(1)? != end(2)?)
}
