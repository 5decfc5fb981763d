//! A schedule in two parts: what `start_step` and `end_step` say, where a sampler has both.

use serde_json::json;
use wan_plugin_api::{FrameLevel, OptionKind, OptionValues, Round, Tensor};
use wan_plugin_kit::values;

use super::constant::adds_noise;
use super::run::{FRAME_ELEMENTS, Run, Velocity, smooth};
use super::scene::Scene;
use crate::outcome::{Checked, Failed, Outcome, ensure};
use crate::sets;
use crate::subject::{Subject, plain_request};

/// The first step that is taken, from 0, and the step before which the run ends; 0: at its end.
const PART: [&str; 2] = ["start_step", "end_step"];

pub(super) fn handover(subject: &Subject) -> Checked {
    let specs = &subject.strategy.options;
    let is_int = |name: &&str| {
        specs.iter().any(|s| s.name == **name && matches!(s.kind, OptionKind::Int { .. }))
    };
    if !PART.iter().all(is_int) {
        return Ok(Outcome::skipped("it has no start_step and end_step"));
    }
    let (defaults, mut seen) = (subject.defaults()?, 0);
    let mut sets = sets::one_by_one(specs, &defaults);
    sets.retain(|set| PART.iter().all(|name| set.get(*name) == defaults.get(*name)));
    sets.insert(0, defaults);
    for options in sets {
        seen += splits(subject, options)?;
    }
    ensure!(seen > 0, "start_step and end_step are there, and every part of a schedule is refused");
    Ok(Outcome::pass(format!("{seen} schedules in two parts")))
}

/// How many places of a schedule it was divided at.
fn splits(subject: &Subject, options: OptionValues) -> Checked<usize> {
    let whole = Scene::new(subject, plain_request(), options)?;
    let Some(run) = whole.start(subject, FRAME_ELEMENTS)? else { return Ok(0) };
    // Where frames take turns, a part is a part of each frame's way.
    let moves_together = |round: &Round| {
        let mut moving = round.levels.iter().map(|level| (level.update, level.sigma));
        let first = moving.next();
        moving.all(|level| Some(level) == first)
    };
    if !run.schedule.rounds.iter().all(moves_together) {
        return Ok(0);
    }
    let steps = run.schedule.rounds.len();
    let mut seen = 0;
    for at in 1..steps {
        let part = |name: &str| {
            let mut options = whole.options.clone();
            options.insert(name.into(), json!(at));
            Scene::new(subject, whole.request.clone(), options)
        };
        let [second, first] = [part(PART[0])?, part(PART[1])?];
        seen += usize::from(halves(subject, [&whole, &first, &second])?);
    }
    Ok(seen)
}

/// Whether both parts are accepted; then they are the whole.
fn halves(subject: &Subject, [whole, first, second]: [&Scene; 3]) -> Checked<bool> {
    let start = |scene: &Scene| scene.start(subject, FRAME_ELEMENTS);
    let (Some(one), Some(two), Some(all)) = (start(first)?, start(second)?, start(whole)?) else {
        return Ok(false);
    };
    let rounds = [&one, &two].map(|run| run.schedule.rounds.clone()).concat();
    ensure!(
        rounds == all.schedule.rounds,
        "the rounds of both parts are not those of the whole; the second part: {second}"
    );
    // Noise is in a history as well, and a method that is off may begin with that once more.
    if !whole.is_another_method(subject) && !adds_noise(subject, whole)? {
        let flat = &mut |sample: &[f32], _: &[FrameLevel]| vec![0.7; sample.len()];
        let (end, _) = both(subject, [first, second], flat)?;
        let (expected, _) = to_end(start(whole)?, whole, flat)?;
        let near = values(&end).iter().zip(&values(&expected)).all(|(a, b)| (a - b).abs() <= 1e-4);
        ensure!(near, "at a constant velocity both parts end elsewhere than the whole; {second}");
    }
    // Without a memory there is nothing that is lost in between.
    let (expected, held) = to_end(Some(all), whole, &mut smooth)?;
    if held == 0 {
        let (end, _) = both(subject, [first, second], &mut smooth)?;
        let bits = |t: &Tensor| values(t).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        ensure!(
            bits(&end) == bits(&expected),
            "nothing is held between steps, and both parts do not give the bits of the whole; \
             {second}"
        );
    }
    Ok(true)
}

/// The first part to its end, and the second from there.
fn both(
    subject: &Subject,
    [first, second]: [&Scene; 2],
    velocity: &mut Velocity<'_>,
) -> Checked<(Tensor, u64)> {
    let (handed, _) = to_end(first.start(subject, FRAME_ELEMENTS)?, first, velocity)?;
    let mut run = second.start(subject, FRAME_ELEMENTS)?;
    if let Some(run) = &mut run {
        run.sample = run.ops.tensor(handed.form().frames as usize, &values(&handed));
    }
    to_end(run, second, velocity)
}

/// The sample at the end of a run, and the most bytes that were held between its steps.
fn to_end(run: Option<Run>, scene: &Scene, velocity: &mut Velocity<'_>) -> Checked<(Tensor, u64)> {
    let mut run = run.ok_or_else(|| Failed(format!("refused, and before it was not; {scene}")))?;
    let mut held = 0;
    while !run.is_over() {
        scene.round(&mut run, velocity)?;
        held = held.max(run.held());
    }
    Ok((run.sample.clone(), held))
}
