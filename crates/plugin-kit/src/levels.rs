//! Noise levels of made-up streams: frames whose timesteps fall together, or each at its own pace.

use wan_plugin_api::FrameLevel;

/// Levels of one stream: one list per evaluation, one level per latent frame.
pub type Levels = Vec<Vec<FrameLevel>>;

/// Timestep at which every frame starts.
const START: u32 = 999;

/// How the timestep of one frame falls from 999.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fall {
    /// Evaluations that the frame waits before its first update.
    pub start: usize,
    /// Decrease of the timestep at each evaluation from then on; the frame rests after the last.
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

/// The levels of frames that fall like this, one per item. The earliest start is taken as 0, so
/// that the first evaluation updates a frame.
pub fn falling(falls: &[Fall]) -> Levels {
    let wait = falls.iter().map(|f| f.start).min().unwrap_or(0);
    let evaluations = falls.iter().map(Fall::end).max().unwrap_or(0);
    let at = |evaluation| {
        let level = |(frame, fall): (usize, &Fall)| fall.level(frame as u32, evaluation);
        falls.iter().enumerate().map(level).collect()
    };
    (wait..evaluations).map(at).collect()
}

/// `frames` frames that fall side by side, each `lag` timesteps below the frame before it. Every
/// evaluation has the same number of distinct timesteps.
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

/// `levels` with `count` frozen frames at `timestep` in front.
pub fn with_frozen_prefix(levels: &Levels, count: u32, timestep: f64) -> Levels {
    let behind = |levels: &Vec<FrameLevel>| {
        let rest = (0..count).map(|f| FrameLevel::frozen(f, timestep, timestep / 1000.0));
        let moved = levels.iter().map(|level| FrameLevel { frame: level.frame + count, ..*level });
        rest.chain(moved).collect()
    };
    levels.iter().map(behind).collect()
}
