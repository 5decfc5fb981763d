//! Velocities whose end is known: constant ones, and those that point at one number.

use wan_plugin_api::{FrameLevel, TensorOps};
use wan_plugin_kit::values;

use super::run::{FRAME_ELEMENTS, Run, bits};
use super::scene::{Scene, scenes};
use crate::outcome::{Checked, Failed, Outcome, ensure};
use crate::subject::Subject;

/// Farthest from the exact end of a step, as a share of its way.
const ERROR_MAX: f64 = 2e-4;

/// What rounding to f32 may add to that, as a share of the numbers that are added.
const ROUNDING: f64 = 4e-6;

pub(super) fn constant(subject: &Subject) -> Checked {
    let (mut exact, mut noisy, mut refused) = (0, 0, 0);
    let mut other_method = None;
    for scene in scenes(subject)? {
        let Some(run) = scene.start(subject, FRAME_ELEMENTS)? else {
            refused += 1;
            continue;
        };
        let found = match straight(run, &scene) {
            Err(_) if adds_noise(subject, &scene)? => {
                noisy += 1;
                noise(subject, &scene)
            }
            found => {
                exact += 1;
                found
            }
        };
        match found {
            Ok(()) => {}
            // By its name it may be meant, as a mistake of a reference is.
            Err(failed) if scene.is_another_method(subject) => {
                other_method.get_or_insert(failed);
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(match other_method {
        Some(Failed(message)) => Outcome::warn(message),
        None => Outcome::pass(format!("{exact} exact, {noisy} with noise, {refused} refused")),
    })
}

/// The velocity of an element: each has another, of either sign.
fn slope(frame: u32, element: usize) -> f32 {
    let place = frame as usize + element;
    let size = 0.5 + 0.25 * ((7 * element + 5 * frame as usize) % 13) as f32;
    if place.is_multiple_of(2) { size } else { -size }
}

fn slopes(sample: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
    let elements = sample.len() / levels.len().max(1);
    let of = |level: &FrameLevel| {
        let frame = level.frame;
        (0..elements).map(move |element| slope(frame, element))
    };
    levels.iter().flat_map(of).collect()
}

/// Every element goes along its slope, in every round and all the way.
fn straight(mut run: Run, scene: &Scene) -> Checked<()> {
    let start = values(&run.sample);
    let mut way = vec![0.0; start.len() / FRAME_ELEMENTS];
    while !run.is_over() {
        let moved = scene.round(&mut run, &mut slopes)?;
        let (index, after) = (run.rounds_done() - 1, values(&moved.after));
        let (before, after) = (moved.before.chunks(FRAME_ELEMENTS), after.chunks(FRAME_ELEMENTS));
        for ((level, before), after) in moved.round.levels.iter().zip(before).zip(after) {
            if level.update {
                let step = format!("round {index}");
                along(level.frame, level.change(), [before, after], &step, scene)?;
                way[level.frame as usize] += level.change();
            }
        }
    }
    let end = values(&run.sample);
    let (start, end) = (start.chunks(FRAME_ELEMENTS), end.chunks(FRAME_ELEMENTS));
    let moved = way.iter().enumerate().zip(start.zip(end)).filter(|((_, way), _)| **way != 0.0);
    for ((frame, way), (start, end)) in moved {
        along(frame as u32, *way, [start, end], "all rounds", scene)?;
    }
    Ok(())
}

/// Whether a frame went `way` along its slopes.
fn along(
    frame: u32,
    way: f64,
    [before, after]: [&[f32]; 2],
    part: &str,
    scene: &Scene,
) -> Checked<()> {
    for (element, (before, after)) in before.iter().zip(after).enumerate() {
        let (before, slope) = (f64::from(*before), f64::from(slope(frame, element)));
        let error = f64::from(*after) - (before + way * slope);
        let allowed = ERROR_MAX * (way * slope).abs() + ROUNDING * (before.abs() + slope.abs());
        ensure!(
            error.abs() <= allowed,
            "{part}: a constant velocity of {slope} takes element {element} of frame {frame} \
             {error:.2e} away from the exact result, after a way of {:.2e}; `velocity` is \
             d sample / d sigma; {scene}",
            way * slope
        );
    }
    Ok(())
}

/// Whether another seed of the noise gives another result from the same start.
pub(super) fn adds_noise(subject: &Subject, scene: &Scene) -> Checked<bool> {
    let end = |noise_seed| -> Checked<Vec<u32>> {
        let Some(mut run) = scene.start(subject, FRAME_ELEMENTS)? else { return Ok(Vec::new()) };
        run.ops.seed = noise_seed;
        while !run.is_over() {
            scene.round(&mut run, &mut slopes)?;
        }
        Ok(bits(&run.sample))
    };
    Ok(end(1)? != end(2)?)
}

/// Elements over which noise is measured.
const MANY: usize = 32_768;

/// The number that all data is.
const DATA: f64 = 50.0;

/// Farthest that a measured mean or variance may be from its value, in standard deviations.
const DEVIATIONS: f64 = 6.0;

/// Below this level rounding shows more than the noise does.
const SIGMA_MIN: f64 = 1e-3;

/// Where all data is one number, the velocity at any sample is known; and at any level a sample is
/// that number and as much noise as the level says, whether a method adds some or not.
fn noise(subject: &Subject, scene: &Scene) -> Checked<()> {
    let frames = scene.request.frames as usize;
    let elements = MANY / frames;
    let Some(mut run) = scene.start(subject, elements)? else { return Ok(()) };
    let begins = run.schedule.begins(frames);
    let seed = std::mem::replace(&mut run.ops.seed, !subject.seed);
    let fresh = values(&run.ops.noise_like(&run.sample, 0, 0)?);
    run.ops.seed = seed;
    let at = |(i, fresh): (usize, &f32)| {
        let sigma = begins[i / elements];
        ((1.0 - sigma) * DATA + sigma * f64::from(*fresh)) as f32
    };
    let start: Vec<f32> = fresh.iter().enumerate().map(at).collect();
    run.sample = run.ops.write_like(&run.sample, &start)?;
    while !run.is_over() {
        let moved = scene.round(&mut run, &mut to_data)?;
        let after = values(&moved.after);
        let levels = moved.round.levels.iter().filter(|level| level.update);
        let first = moved.round.first_frame();
        let of = |level: &FrameLevel| {
            let place = (level.frame as usize - first) * elements;
            let sigma = level.sigma_next;
            let noise = after[place..place + elements]
                .iter()
                .map(move |x| f64::from(*x) - (1.0 - sigma) * DATA);
            (sigma, noise.collect::<Vec<f64>>())
        };
        measure(&levels.map(of).collect::<Vec<_>>(), run.rounds_done() - 1, scene)?;
    }
    Ok(())
}

/// The velocity `noise - data`.
fn to_data(sample: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
    let elements = (sample.len() / levels.len().max(1)).max(1);
    let at = |(i, x): (usize, &f32)| {
        let sigma = levels[i / elements].sigma;
        if sigma > 0.0 { ((f64::from(*x) - DATA) / sigma) as f32 } else { 0.0 }
    };
    sample.iter().enumerate().map(at).collect()
}

/// Holds what is not data, with the level of each frame, to that level.
fn measure(frames: &[(f64, Vec<f64>)], index: usize, scene: &Scene) -> Checked<()> {
    let clean = frames.iter().filter(|(sigma, _)| *sigma == 0.0).flat_map(|(_, left)| left);
    for left in clean {
        ensure!(
            left.abs() <= ERROR_MAX * DATA,
            "round {index}: where all data is {DATA}, a clean frame is {left:.2e} away from it; \
             {scene}"
        );
    }
    let noisy = frames.iter().filter(|(sigma, _)| *sigma >= SIGMA_MIN);
    let units: Vec<f64> =
        noisy.flat_map(|(sigma, noise)| noise.iter().map(move |n| n / sigma)).collect();
    if units.is_empty() {
        return Ok(());
    }
    let count = units.len() as f64;
    let mean = units.iter().sum::<f64>() / count;
    let variance = units.iter().map(|u| u * u).sum::<f64>() / count;
    ensure!(
        mean.abs() <= DEVIATIONS / count.sqrt()
            && (variance - 1.0).abs() <= DEVIATIONS * (2.0 / count).sqrt(),
        "round {index}: a sample of level sigma is (1 - sigma) data and sigma noise; here the noise \
         has mean {mean:.3} in place of 0 and variance {variance:.3} in place of 1; {scene}"
    );
    Ok(())
}
