//! What samplers are tried with: requests of every size, each with a set of options.

use std::fmt;

use serde_json::Value;
use wan_plugin_api::{ErrorKind, OptionKind, OptionValues, SampleRequest};

use super::run::{Moved, Run, Velocity};
use crate::dice::Dice;
use crate::outcome::{Checked, Failed};
use crate::sets;
use crate::subject::{Subject, plain_request};

/// Random sets of options, each with a random request.
const RANDOM: usize = 150;

/// Random requests where there is nothing to set.
const RANDOM_REQUESTS: usize = 30;

/// A request, and the options that its sampler is made with.
pub(super) struct Scene {
    pub(super) request: SampleRequest,
    pub(super) options: OptionValues,
    /// What of the options is not at its default.
    changed: Value,
    seed: u64,
}

impl Scene {
    pub(super) fn new(
        subject: &Subject,
        request: SampleRequest,
        options: OptionValues,
    ) -> Checked<Self> {
        let changed = sets::changes(&options, &subject.defaults()?);
        Ok(Self { request, options, changed, seed: subject.seed })
    }

    /// Options at their defaults.
    pub(super) fn plain(subject: &Subject, request: SampleRequest) -> Checked<Self> {
        Self::new(subject, request, subject.defaults()?)
    }

    fn is_at_defaults(&self) -> bool {
        self.changed == Value::Object(Default::default())
    }

    /// The run of it; none where the sampler refuses it as it may. At the defaults nobody refuses
    /// the plain request; what other options make of it is the matter of the test of options.
    pub(super) fn start(&self, subject: &Subject, elements: usize) -> Checked<Option<Run>> {
        let made = subject.sampler_with(&self.options, &self.request);
        let run = made.and_then(|s| Run::of_elements(s, &self.request, subject.seed, elements));
        match run {
            Ok(run) => Ok(Some(run)),
            Err(_) if !self.is_at_defaults() => Ok(None),
            Err(e) if e.kind == ErrorKind::Invalid && self.request != plain_request() => Ok(None),
            Err(error) => Err(Failed(format!("{error}; {self}"))),
        }
    }

    /// The next round; what goes wrong says where.
    pub(super) fn round(&self, run: &mut Run, velocity: &mut Velocity<'_>) -> Checked<Moved> {
        let index = run.rounds_done();
        run.round_of(velocity).map_err(|error| Failed(format!("{error}; round {index}, {self}")))
    }

    /// Whether a word is chosen that is not the default: another method, by its name.
    pub(super) fn is_another_method(&self, subject: &Subject) -> bool {
        let specs = &subject.strategy.options;
        let mut words = specs.iter().filter(|spec| matches!(spec.kind, OptionKind::Choice(_)));
        words.any(|spec| self.changed.get(&spec.name).is_some())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for {:?}", self.request)?;
        if !self.is_at_defaults() {
            write!(f, " with {} (seed {})", self.changed, self.seed)?;
        }
        Ok(())
    }
}

/// Defaults with requests of every size, every option alone, and random sets: all that is cheap.
pub(super) fn scenes(subject: &Subject) -> Checked<Vec<Scene>> {
    let mut scenes = Vec::new();
    for request in sizes() {
        scenes.push(Scene::plain(subject, request)?);
    }
    let (specs, defaults) = (&subject.strategy.options, subject.defaults()?);
    let behind = SampleRequest { prefix_frames: 2, ..plain_request() };
    for options in sets::one_by_one(specs, &defaults) {
        for request in [plain_request(), behind.clone()] {
            scenes.push(Scene::new(subject, request, options.clone())?);
        }
    }
    let mut dice = Dice::new(subject.seed, "scenes");
    for _ in 0..if specs.is_empty() { RANDOM_REQUESTS } else { RANDOM } {
        let options = sets::at_random(specs, &defaults, &mut dice);
        scenes.push(Scene::new(subject, any_request(&mut dice), options)?);
    }
    Ok(scenes)
}

/// The plain request first; then each of its numbers at other values, and some together.
fn sizes() -> Vec<SampleRequest> {
    let plain = plain_request();
    let of = |frames| SampleRequest { frames, ..plain.clone() };
    let steps = [1, 2, 3, 4, 5, 6, 7, 13, 20, 50].map(|steps| SampleRequest { steps, ..of(3) });
    let frames = [1, 2, 7, 21].map(of);
    let shifts = [0.2, 1.0, 5.0, 17.0].map(|shift| SampleRequest { shift, ..plain.clone() });
    let prefixes = [(5, 1), (5, 3), (5, 4), (9, 3)]
        .map(|(frames, prefix_frames)| SampleRequest { prefix_frames, ..of(frames) });
    let long = of(12);
    let longer = SampleRequest { prefix_frames: 2, ..long.clone() };
    [vec![plain], steps.into(), frames.into(), shifts.into(), prefixes.into(), vec![long, longer]]
        .concat()
}

/// A small request; the steps are often the plain ones, which lists of levels fit.
fn any_request(dice: &mut Dice) -> SampleRequest {
    let plain = plain_request();
    let frames = 1 + dice.below(9) as u32;
    let prefix_frames = if dice.below(2) == 0 { dice.below(frames as usize) as u32 } else { 0 };
    let steps = if dice.below(2) == 0 { plain.steps } else { 1 + dice.below(24) as u32 };
    let shift = *dice.one_of(&[1.0, 3.0, 3.0, 5.0, 12.0]);
    SampleRequest { frames, prefix_frames, steps, shift, ..plain }
}
