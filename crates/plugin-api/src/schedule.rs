//! Schedules: the rounds of a request, all at once or in parts.

use serde::{Deserialize, Serialize};

use crate::{Attention, Error, FrameLevel, Result, Round};

/// Rounds of a request, in order: all of them, or a part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// The rounds.
    pub rounds: Vec<Round>,
    /// Notices for the user, one line each, for example about a setting that was rounded.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Size of the whole schedule, of which the rounds are a part; none where they are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<ScheduleSize>,
}

/// Work of a whole schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScheduleSize {
    /// Rounds.
    pub rounds: usize,
    /// Model evaluations.
    pub evaluations: u32,
}

impl ScheduleSize {
    /// Every round has an evaluation at least.
    ///
    /// # Errors
    /// `Failed` where there are more rounds than evaluations.
    pub fn check(self) -> Result<Self> {
        match u32::try_from(self.rounds) {
            Ok(rounds) if rounds <= self.evaluations => Ok(self),
            _ => Err(Error::failed(format!(
                "a schedule of {} rounds and {} evaluations: each round has one at least",
                self.rounds, self.evaluations
            ))),
        }
    }
}

impl From<Vec<Round>> for Schedule {
    fn from(rounds: Vec<Round>) -> Self {
        Self { rounds, notices: Vec::new(), part_of: None }
    }
}

impl Schedule {
    /// Rounds of a schedule of this size, from the one that the host has asked for.
    pub fn part_of(rounds: Vec<Round>, whole: ScheduleSize) -> Self {
        Self { part_of: Some(whole), ..rounds.into() }
    }

    /// Work of the whole schedule.
    pub fn size(&self) -> ScheduleSize {
        self.part_of.unwrap_or_else(|| ScheduleSize {
            rounds: self.rounds.len(),
            evaluations: self.evaluations(),
        })
    }

    /// Model evaluations of these rounds, which [`ends`](Self::ends) has checked.
    pub fn evaluations(&self) -> u32 {
        self.rounds.iter().fold(0, |all, round| all.saturating_add(round.evaluations))
    }

    /// The checks of [`ends`](Self::ends), and that every frame ends at sigma 0.
    ///
    /// # Errors
    /// `Failed`, naming round and frame.
    pub fn check(&self, frames: usize, prefix_frames: usize) -> Result<()> {
        let ends = self.ends(frames, prefix_frames)?;
        match ends.iter().position(|sigma| *sigma != 0.0) {
            Some(frame) => Err(Error::failed(format!(
                "the schedule leaves frame {frame} at sigma {}",
                ends[frame]
            ))),
            None => Ok(()),
        }
    }

    /// Sigma of each frame in the first of these rounds that updates it; 0 for a frame that none of
    /// them does.
    pub fn begins(&self, frames: usize) -> Vec<f64> {
        let first = |frame: usize| {
            let mut moving = self.rounds.iter().flat_map(|round| &round.levels);
            moving.find(|l| l.update && l.frame as usize == frame).map_or(0.0, |l| l.sigma)
        };
        (0..frames).map(first).collect()
    }

    /// Sigma at which these rounds leave each frame, if they are the first ones; each is checked
    /// ([`FrameSigmas`]).
    ///
    /// # Errors
    /// `Failed`, naming round and frame.
    pub fn ends(&self, frames: usize, prefix_frames: usize) -> Result<Vec<f64>> {
        let mut sigmas = FrameSigmas::new(frames, prefix_frames);
        self.rounds.iter().try_for_each(|round| sigmas.see(round))?;
        Ok(sigmas.sigmas)
    }
}

/// Sigma of every frame while a schedule is gone through, round by round. Every round is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameSigmas {
    sigmas: Vec<f64>,
    seen: ScheduleSize,
}

impl FrameSigmas {
    /// Before the first round: frames are noise, but for a clean prefix.
    pub fn new(frames: usize, prefix_frames: usize) -> Self {
        let mut sigmas = vec![1.0; frames];
        sigmas[..prefix_frames.min(frames)].fill(0.0);
        Self { sigmas, seen: ScheduleSize::default() }
    }

    /// Sigma of each frame now.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// What has been gone through.
    pub fn seen(&self) -> ScheduleSize {
        self.seen
    }

    /// Goes on by a round. Its window lies inside the video and has no gaps, blocks of its
    /// attention have frames, timesteps are finite, `0 <= sigma_next <= sigma <= 1`, and frames
    /// that are not updated keep their sigma. All evaluations together can be counted.
    ///
    /// # Errors
    /// `Failed`, naming round and frame.
    pub fn see(&mut self, round: &Round) -> Result<()> {
        let (index, frames) = (self.seen.rounds, self.sigmas.len());
        let wrong = |what: String| Err(Error::failed(format!("round {index}: {what}")));
        if round.is_empty() || round.evaluations == 0 {
            return wrong("no frames, or no evaluations".into());
        }
        if round.attention == Attention::BlockCausal(0) {
            return wrong("its attention has blocks of 0 frames".into());
        }
        let Some(evaluations) = self.seen.evaluations.checked_add(round.evaluations) else {
            return wrong(format!("{} evaluations are too many to count", round.evaluations));
        };
        for (place, level) in round.levels.iter().enumerate() {
            let frame = level.frame as usize;
            if frame != round.first_frame() + place || frame >= frames {
                return wrong(format!("frame {frame} at place {place} of {frames} frames"));
            }
            if !is_possible(level) {
                return wrong(format!("frame {frame} has impossible levels {level:?}"));
            }
            if level.update {
                self.sigmas[frame] = level.sigma_next;
            }
        }
        self.seen = ScheduleSize { rounds: index + 1, evaluations };
        Ok(())
    }
}

fn is_possible(level: &FrameLevel) -> bool {
    let ordered = 0.0 <= level.sigma_next && level.sigma_next <= level.sigma && level.sigma <= 1.0;
    ordered && level.timestep.is_finite() && (level.update || level.sigma_next == level.sigma)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(levels: Vec<FrameLevel>) -> Round {
        Round { levels, attention: Attention::Bidirectional, evaluations: 1 }
    }

    #[test]
    fn a_schedule_must_bring_every_frame_to_zero() {
        let half = round(vec![
            FrameLevel::moving(0, 1000.0, 1.0, 0.5),
            FrameLevel::moving(1, 1000.0, 1.0, 0.0),
        ]);
        let rest = round(vec![FrameLevel::moving(0, 500.0, 0.5, 0.0)]);
        let whole = Schedule::from(vec![half.clone(), rest]);
        whole.check(2, 0).unwrap();
        let error = Schedule::from(vec![half]).check(2, 0).unwrap_err();
        assert!(error.message.contains("frame 0 at sigma 0.5"), "{error}");
    }

    #[test]
    fn blocks_of_nothing_and_uncounted_evaluations_are_refused() {
        let sound = round(vec![FrameLevel::moving(0, 1000.0, 1.0, 0.0)]);
        let blocks = Round { attention: Attention::BlockCausal(0), ..sound.clone() };
        let many = Round { evaluations: u32::MAX, ..sound.clone() };
        for rounds in [vec![blocks], vec![many, sound]] {
            let schedule = Schedule::from(rounds);
            assert!(schedule.check(1, 0).is_err());
            assert!(schedule.evaluations() > 0);
        }
    }

    #[test]
    fn a_size_with_rounds_that_evaluate_nothing_is_refused() {
        let size = |rounds, evaluations| ScheduleSize { rounds, evaluations };
        for sound in [size(0, 0), size(3, 3), size(3, 6)] {
            assert_eq!(sound.check(), Ok(sound));
        }
        for wrong in [size(1, 0), size(usize::MAX, u32::MAX), size(usize::MAX, 4)] {
            assert!(wrong.check().unwrap_err().message.contains("each round has one at least"));
        }
    }

    #[test]
    fn gaps_rises_and_restless_frozen_frames_are_refused() {
        let gap = vec![FrameLevel::frozen(0, 0.0, 0.0), FrameLevel::frozen(2, 0.0, 0.0)];
        let rise = vec![FrameLevel::moving(0, 500.0, 0.5, 0.6)];
        let mut restless = FrameLevel::frozen(0, 500.0, 0.5);
        restless.sigma_next = 0.0;
        for levels in [gap, rise, vec![restless]] {
            assert!(Schedule::from(vec![round(levels)]).check(3, 3).is_err());
        }
    }
}
