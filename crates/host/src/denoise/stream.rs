//! Streams: the runs of rounds that one cache object sees.

use serde::{Deserialize, Serialize};
use wan_border::numbers::u32_of;
use wan_plugin_api::Round;

/// A run of rounds over one window by one expert.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// First latent frame and number of frames.
    pub(crate) window: (usize, usize),
    /// Which expert runs.
    pub(crate) expert: usize,
    /// Evaluations of the stream.
    pub(crate) evaluations: u32,
    /// Evaluations of the same window by earlier experts, and by later ones.
    pub(crate) before: u32,
    pub(crate) after: u32,
    /// The next one, from 0.
    pub(crate) next: u32,
    /// Most distinct timesteps of one evaluation.
    pub(crate) timesteps_max: u32,
    /// The round that is under way.
    pub(crate) round: usize,
}

/// The next round of a run, and what comes behind it.
pub(crate) struct Ahead<'a> {
    /// Number of the next round.
    pub(crate) index: usize,
    /// It, and at least all that follow over its window.
    pub(crate) rounds: &'a [Round],
    /// Evaluations of the rounds before it over its window.
    pub(crate) window_evaluations: u32,
}

impl Stream {
    /// The stream that begins with the next round.
    pub(crate) fn begin(ahead: &Ahead<'_>, boundary: Option<f64>) -> Self {
        let Some(begin) = ahead.rounds.first() else { return Self::default() };
        let place = |round: &Round| (round.first_frame(), round.len(), expert_of(round, boundary));
        let (first, frames, expert) = place(begin);
        let mut stream = Self {
            window: (first, frames),
            expert,
            round: ahead.index,
            before: ahead.window_evaluations,
            ..Self::default()
        };
        let same_window = |round: &&Round| (round.first_frame(), round.len()) == (first, frames);
        for round in ahead.rounds.iter().take_while(same_window) {
            if place(round) != (first, frames, expert) || stream.after > 0 {
                stream.after += round.evaluations;
                continue;
            }
            stream.evaluations += round.evaluations;
            stream.timesteps_max = stream.timesteps_max.max(distinct_timesteps(round));
        }
        stream
    }

    /// Whether a round belongs to this stream.
    pub(crate) fn holds(&self, round: &Round, boundary: Option<f64>) -> bool {
        self.window == (round.first_frame(), round.len())
            && self.expert == expert_of(round, boundary)
    }
}

/// The expert of a round: the first where its noisiest moving frame is at or above `boundary` (Wan
/// 2.2, commit 42bf4cf: `t >= boundary`, on the timestep as the model is told), else the second.
pub(crate) fn expert_of(round: &Round, boundary: Option<f64>) -> usize {
    let Some(boundary) = boundary else { return 0 };
    usize::from(noisiest_timestep(round) < boundary)
}

/// Timestep of the noisiest frame that moves.
pub(crate) fn noisiest_timestep(round: &Round) -> f64 {
    let moving = round.levels.iter().filter(|l| l.update);
    moving.map(|l| l.timestep).fold(f64::NEG_INFINITY, f64::max)
}

fn distinct_timesteps(round: &Round) -> u32 {
    let mut timesteps: Vec<u64> = round.levels.iter().map(|l| l.timestep.to_bits()).collect();
    timesteps.sort_unstable();
    timesteps.dedup();
    u32_of(timesteps.len())
}

#[cfg(test)]
mod tests {
    use wan_plugin_api::{Attention, FrameLevel};

    use super::*;

    fn rounds() -> Vec<Round> {
        let round = |timesteps: [f64; 2]| Round {
            levels: (0..2)
                .map(|f| FrameLevel::moving(f, timesteps[f as usize], 0.5, 0.4))
                .collect(),
            attention: Attention::Bidirectional,
            evaluations: 1,
        };
        vec![round([999.0, 999.0]), round([900.0, 999.0]), round([800.0, 800.0])]
    }

    #[test]
    fn a_stream_ends_where_the_expert_changes() {
        let rounds = rounds();
        let begin = |index: usize, boundary| {
            let window_evaluations = rounds[..index].iter().map(|round| round.evaluations).sum();
            let ahead = Ahead { index, rounds: &rounds[index..], window_evaluations };
            Stream::begin(&ahead, boundary)
        };
        let whole = begin(0, None);
        assert_eq!((whole.evaluations, whole.timesteps_max, whole.expert), (3, 2, 0));
        let high = begin(0, Some(875.0));
        assert_eq!((high.evaluations, high.expert), (2, 0));
        assert!(!high.holds(&rounds[2], Some(875.0)));
        let low = begin(2, Some(875.0));
        assert_eq!((low.evaluations, low.expert, low.round), (1, 1, 2));
        assert_eq!((whole.before, whole.after), (0, 0));
        assert_eq!((high.before, high.after), (0, 1));
        assert_eq!((low.before, low.after), (2, 0));
    }
}
