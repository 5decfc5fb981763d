//! Levels of made-up streams: frames that fall at their own pace, or all at once.

use wan_plugin_api::FrameLevel;

/// Evaluations of one stream: the levels of each.
pub type Levels = Vec<Vec<FrameLevel>>;

/// Timestep from which every frame falls.
const START: u32 = 999;

/// How one frame falls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fall {
    /// Evaluations that it waits.
    pub start: usize,
    /// Timesteps that it falls at each evaluation from then on; it rests after the last.
    pub by: Vec<u32>,
}

impl Fall {
    fn timestep_after(&self, steps: usize) -> f64 {
        f64::from(START.saturating_sub(self.by.iter().take(steps).sum()))
    }

    fn end(&self) -> usize {
        self.start + self.by.len()
    }

    fn level(&self, frame: u32, evaluation: usize) -> FrameLevel {
        let done = evaluation.saturating_sub(self.start).min(self.by.len());
        let now = self.timestep_after(done);
        if evaluation < self.start || done == self.by.len() {
            return FrameLevel::frozen(frame, now, now / 1000.0);
        }
        FrameLevel::moving(frame, now, now / 1000.0, self.timestep_after(done + 1) / 1000.0)
    }
}

/// The levels of frames that fall so. The first starts at once, whatever it says.
pub fn falling(falls: &[Fall]) -> Levels {
    let wait = falls.iter().map(|f| f.start).min().unwrap_or(0);
    let evaluations = falls.iter().map(Fall::end).max().unwrap_or(0);
    let at = |evaluation| {
        let level = |(frame, fall): (usize, &Fall)| fall.level(frame as u32, evaluation);
        falls.iter().enumerate().map(level).collect()
    };
    (wait..evaluations).map(at).collect()
}

/// `frames` frames that fall side by side, each `lag` timesteps before the next, so that every
/// evaluation has equally many distinct timesteps.
pub fn side_by_side(frames: u32, evaluations: usize, lag: f64) -> Levels {
    let fall = f64::from(START - 99) / evaluations as f64;
    let at = |evaluation: usize| {
        let level = |frame| {
            let now = f64::from(START) - fall * evaluation as f64 - lag * f64::from(frame);
            FrameLevel::moving(frame, now, now / 1000.0, (now - fall) / 1000.0)
        };
        (0..frames).map(level).collect()
    };
    (0..evaluations).map(at).collect()
}

/// `levels` behind `count` frames that rest at `timestep`.
pub fn behind_resting(levels: &Levels, count: u32, timestep: f64) -> Levels {
    let behind = |levels: &Vec<FrameLevel>| {
        let rest = (0..count).map(|f| FrameLevel::frozen(f, timestep, timestep / 1000.0));
        let moved = levels.iter().map(|level| FrameLevel { frame: level.frame + count, ..*level });
        rest.chain(moved).collect()
    };
    levels.iter().map(behind).collect()
}

/// Most distinct timesteps of one evaluation.
pub(crate) fn timesteps_max(levels: &Levels) -> usize {
    levels.iter().map(|levels| distinct(levels).len()).max().unwrap_or(0)
}

/// The distinct timesteps of one evaluation, in the order in which they come.
pub(crate) fn distinct(levels: &[FrameLevel]) -> Vec<f64> {
    let mut found = Vec::new();
    for level in levels {
        if !found.contains(&level.timestep) {
            found.push(level.timestep);
        }
    }
    found
}

/// Steps of the frame that takes the most.
pub(crate) fn steps(levels: &Levels) -> usize {
    let frames = levels.first().map_or(0, Vec::len);
    let moves = |frame: usize, levels: &[FrameLevel]| levels.get(frame).is_some_and(|l| l.update);
    (0..frames).map(|f| levels.iter().filter(|l| moves(f, l)).count()).max().unwrap_or(0)
}
