//! Rounds: the latent frames that are evaluated together, the noise level of each, and the
//! attention between them.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use crate::epoch1::FrameLevel;

impl FrameLevel {
    /// A frame that the step moves from `sigma` to `sigma_next`.
    pub fn moving(frame: u32, timestep: f64, sigma: f64, sigma_next: f64) -> Self {
        Self { frame, update: true, timestep, sigma, sigma_next }
    }

    /// A frame that is context only and keeps its level.
    pub fn frozen(frame: u32, timestep: f64, sigma: f64) -> Self {
        Self { frame, update: false, timestep, sigma, sigma_next: sigma }
    }

    /// `sigma_next - sigma`: negative, or 0 for a frame that is not updated.
    pub fn change(&self) -> f64 {
        self.sigma_next - self.sigma
    }
}

/// The tokens that a token of one latent frame attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// All tokens of the window.
    #[default]
    Bidirectional,
    /// Tokens of its own block of this many latent frames, and of the blocks before.
    BlockCausal(u32),
}

/// One call of [`Sampler::step`](crate::Sampler::step): a window of latent frames, each at its own
/// noise level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The frames of the window, ascending and without gaps.
    pub levels: Vec<FrameLevel>,
    /// The attention between them.
    pub attention: Attention,
    /// Model evaluations of the step: 1 for Euler and multistep methods, 2 for Heun.
    pub evaluations: u32,
}

impl Round {
    /// Number in the video of the window's first latent frame.
    pub fn first_frame(&self) -> usize {
        self.levels.first().map_or(0, |l| l.frame as usize)
    }

    /// Latent frames in the window.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// True for a window without frames, which no valid schedule has.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }
}

/// All rounds of one request, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// The rounds.
    pub rounds: Vec<Round>,
    /// Notices for the user, one line each, for example about a setting that was rounded.
    #[serde(default)]
    pub notices: Vec<String>,
}

impl From<Vec<Round>> for Schedule {
    fn from(rounds: Vec<Round>) -> Self {
        Self { rounds, notices: Vec::new() }
    }
}

impl Schedule {
    /// Model evaluations of the whole schedule, which [`ends`](Self::ends) has checked.
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

    /// Sigma of each frame in the first round that updates it; 0 for a frame that is never updated.
    pub fn begins(&self, frames: usize) -> Vec<f64> {
        let first = |frame: usize| {
            let mut moving = self.rounds.iter().flat_map(|round| &round.levels);
            moving.find(|l| l.update && l.frame as usize == frame).map_or(0.0, |l| l.sigma)
        };
        (0..frames).map(first).collect()
    }

    /// Sigma at which each frame ends. Checks every round: its window lies inside `frames` and has
    /// no gaps, blocks of its attention have frames, timesteps are finite,
    /// `0 <= sigma_next <= sigma <= 1`, and frames that are not updated keep their sigma. All
    /// evaluations together can be counted.
    ///
    /// # Errors
    /// `Failed`, naming round and frame.
    pub fn ends(&self, frames: usize, prefix_frames: usize) -> Result<Vec<f64>> {
        let (mut sigma, mut evaluations) = (vec![1.0; frames], 0u32);
        sigma[..prefix_frames.min(frames)].fill(0.0);
        for (index, round) in self.rounds.iter().enumerate() {
            let wrong = |what: String| Err(Error::failed(format!("round {index}: {what}")));
            if round.is_empty() || round.evaluations == 0 {
                return wrong("no frames, or no evaluations".into());
            }
            if round.attention == Attention::BlockCausal(0) {
                return wrong("its attention has blocks of 0 frames".into());
            }
            let Some(all) = evaluations.checked_add(round.evaluations) else {
                return wrong(format!("{} evaluations are too many to count", round.evaluations));
            };
            evaluations = all;
            for (place, level) in round.levels.iter().enumerate() {
                let frame = level.frame as usize;
                if frame != round.first_frame() + place || frame >= frames {
                    return wrong(format!("frame {frame} at place {place} of {frames} frames"));
                }
                let ordered = 0.0 <= level.sigma_next
                    && level.sigma_next <= level.sigma
                    && level.sigma <= 1.0
                    && level.timestep.is_finite();
                if !ordered || (!level.update && level.sigma_next != level.sigma) {
                    return wrong(format!("frame {frame} has impossible levels {level:?}"));
                }
                if level.update {
                    sigma[frame] = level.sigma_next;
                }
            }
        }
        Ok(sigma)
    }
}

/// The position of a [`Sampler::step`](crate::Sampler::step) in the schedule.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Number of the round, from 0.
    pub index: usize,
    /// Model evaluations before this round.
    pub evaluation: u32,
    /// Model evaluations from this round on, itself included.
    pub evaluations_left: u32,
    /// The round itself.
    pub round: &'a Round,
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
