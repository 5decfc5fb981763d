//! What a sampler does with good input.

use wan_plugin_api::{ErrorKind, FrameLevel, Round, SampleRequest};
use wan_plugin_kit::values;

use super::run::{FRAME_ELEMENTS, Moved, bits, smooth};
use super::scene::{Scene, scenes};
use crate::outcome::{Checked, Outcome, ensure};
use crate::subject::{Subject, plain_request};

const STEPS: [u32; 8] = [1, 2, 3, 5, 8, 50, 333, 1000];
const FRAMES: [u32; 5] = [1, 2, 5, 21, 81];

/// Requests of every size; the plain one first, which nobody may refuse.
fn requests() -> Vec<SampleRequest> {
    let plain = plain_request();
    let steps = STEPS.map(|steps| SampleRequest { steps, ..plain.clone() });
    let frames = FRAMES.map(|frames| SampleRequest { frames, ..plain.clone() });
    let shifts = [1.0, 0.2, 17.0].map(|shift| SampleRequest { shift, ..plain.clone() });
    let prefixes = [1, 4].map(|prefix_frames| SampleRequest { prefix_frames, ..plain.clone() });
    let long = SampleRequest { frames: 41, ..plain.clone() };
    [vec![plain], steps.into(), frames.into(), shifts.into(), prefixes.into(), vec![long]].concat()
}

pub(super) fn schedule(subject: &Subject) -> Checked {
    let (mut served, mut refused) = (0, 0);
    for request in requests() {
        let made = subject.sampler(&request).and_then(|sampler| sampler.whole_schedule());
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
        let raw = schedule.notices.iter().find(|notice| notice.contains(char::is_control));
        ensure!(raw.is_none(), "a notice has control characters: {raw:?}; for {request:?}");
        served += 1;
    }
    Ok(Outcome::pass(format!("{served} requests served, {refused} refused")))
}

pub(super) fn shapes(subject: &Subject) -> Checked {
    let mut rounds = 0;
    for (scene, elements) in sizes(subject)? {
        let Some(mut run) = scene.start(subject, elements)? else { continue };
        while !run.is_over() {
            let round = run.upcoming();
            let mut strange = None;
            let moved = scene.round(&mut run, &mut |sample, levels| {
                let asked = unlike(&round, levels, sample.len() / elements);
                strange = strange.take().or(asked);
                smooth(sample, levels)
            })?;
            ensure!(strange.is_none(), "{}; {scene}", strange.unwrap_or_default());
            check_numbers(&moved, &scene)?;
            rounds += 1;
        }
    }
    Ok(Outcome::pass(format!("{rounds} rounds")))
}

/// Requests, and how many elements a frame has: long ones, wide ones, and all that is cheap.
fn sizes(subject: &Subject) -> Checked<Vec<(Scene, usize)>> {
    let plain = plain_request();
    let mut sizes = Vec::new();
    for (steps, frames, elements) in
        [(8, 5, 3), (1, 1, 1), (2, 1, 3), (4, 81, 2), (300, 2, 2), (3, 21, 16 * 1024)]
    {
        let request = SampleRequest { steps, frames, ..plain.clone() };
        sizes.push((Scene::plain(subject, request)?, elements));
    }
    sizes.extend(scenes(subject)?.into_iter().map(|scene| (scene, 3)));
    Ok(sizes)
}

/// What is wrong with a question to the model: other frames than the round's, or no level at all.
fn unlike(round: &Round, levels: &[FrameLevel], frames: usize) -> Option<String> {
    let are = |of: &[FrameLevel]| of.iter().map(|level| level.frame).collect::<Vec<_>>();
    let (asked, own) = (are(levels), are(&round.levels));
    if asked != own || frames != own.len() {
        return Some(format!(
            "a step asked the model about {frames} frames with levels of {asked:?}, its round has \
             {own:?}"
        ));
    }
    let is_level = |level: &&FrameLevel| level.timestep.is_finite();
    let wrong = levels.iter().find(|level| !is_level(level))?;
    Some(format!("a step asked the model at timestep {}", wrong.timestep))
}

fn check_numbers(moved: &Moved, scene: &Scene) -> Checked<()> {
    ensure!(
        moved.evaluations == moved.round.evaluations,
        "a step asked the model {} times, its round declares {}; {scene}",
        moved.evaluations,
        moved.round.evaluations
    );
    ensure!(
        values(&moved.after).iter().all(|x| x.is_finite()),
        "a step gave numbers that are not finite; {scene}"
    );
    Ok(())
}

/// Elements of a large frame: odd as well.
const LARGE: usize = 1031;

pub(super) fn frozen(subject: &Subject) -> Checked {
    let mut seen = 0;
    for scene in scenes(subject)? {
        seen += frozen_in(subject, &scene, FRAME_ELEMENTS)?;
    }
    for prefix_frames in [1, 4] {
        let scene = Scene::plain(subject, SampleRequest { prefix_frames, ..plain_request() })?;
        seen += frozen_in(subject, &scene, LARGE)?;
    }
    match seen {
        0 => Ok(Outcome::skipped("it refuses clean frames at the start, and freezes none")),
        seen => Ok(Outcome::pass(format!("{seen} frozen frames"))),
    }
}

/// How many frames rested in a round, each of which kept every bit.
fn frozen_in(subject: &Subject, scene: &Scene, elements: usize) -> Checked<usize> {
    let Some(mut run) = scene.start(subject, elements)? else { return Ok(0) };
    let mut seen = 0;
    while !run.is_over() {
        let moved = scene.round(&mut run, &mut smooth)?;
        let after = bits(&moved.after);
        let before: Vec<u32> = moved.before.iter().map(|x| x.to_bits()).collect();
        let frames = before.chunks(elements).zip(after.chunks(elements));
        for (level, (before, after)) in moved.round.levels.iter().zip(frames) {
            if level.update {
                continue;
            }
            let changed =
                before.iter().zip(after).filter(|(before, after)| before != after).count();
            ensure!(
                changed == 0,
                "frame {} is not moved, and {changed} of its {elements} elements changed in round \
                 {}; {scene}",
                level.frame,
                run.rounds_done() - 1
            );
            seen += 1;
        }
    }
    Ok(seen)
}
