//! The rounds of a run: the next ones are held, as far as the window of the first of them lasts. What
//! is done is forgotten, what comes later is asked for when it is its turn.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wan_plugin_api::library::AnySampler;
use wan_plugin_api::{Error as PluginError, FrameSigmas, Round, Schedule, ScheduleSize};

use crate::cancel::Cancel;
use crate::denoise::stream::{Ahead, Stream};
use crate::error::{Error, Result};
use crate::plugins::registry::Chosen;
use crate::run::handover;

/// Most rounds over one window that are held while more of them are to come in parts: far more than the
/// steps that a frame may have.
const HELD_MAX: usize = 1 << 16;

/// Rounds that are still to be done.
#[derive(Clone)]
pub(crate) struct Rounds {
    /// Who gives them.
    chosen: Chosen,
    size: ScheduleSize,
    /// Number of the first one that is held.
    next: usize,
    held: VecDeque<Round>,
    /// Evaluations of earlier rounds over its window.
    window_evaluations: u32,
    /// All that the sampler has given, those that are held included.
    given: FrameSigmas,
    may_end_noisy: bool,
}

/// What a saved run knows of its rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoundsState {
    pub(crate) size: ScheduleSize,
    pub(crate) next: usize,
    held: VecDeque<Round>,
}

impl Rounds {
    /// All rounds of a sampler, of which it gives the first ones now, and its notices. `frames` is
    /// the number of latent frames, and of the clean ones in front. `cancel` ends it.
    pub(crate) fn of(
        sampler: &dyn AnySampler,
        chosen: &Chosen,
        frames: (usize, usize),
        may_end_noisy: bool,
        cancel: &Cancel,
    ) -> Result<(Self, Vec<String>)> {
        let first = sampler.schedule_from(0).map_err(Error::strategy(&chosen.strategy.id))?;
        let notices = first.notices.clone();
        let size = first.size().check().map_err(Error::strategy(&chosen.strategy.id))?;
        let mut rounds = Self {
            chosen: chosen.clone(),
            size,
            next: 0,
            held: VecDeque::new(),
            window_evaluations: 0,
            given: FrameSigmas::new(frames.0, frames.1),
            may_end_noisy,
        };
        rounds.take_in(first)?;
        while rounds.asks_for_more()? {
            cancel.check()?;
            rounds.take_next_part(sampler)?;
        }
        Ok((rounds, notices))
    }

    /// Work of the whole schedule.
    pub(crate) fn size(&self) -> ScheduleSize {
        self.size
    }

    /// Number of the next round.
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// Whether all are done.
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.size.rounds
    }

    /// The next round.
    pub(crate) fn first(&self) -> Result<&Round> {
        self.held.front().ok_or_else(|| Error::invalid("no round is left"))
    }

    /// Sigma at which the rounds that were given leave each latent frame.
    pub(crate) fn ends(&self) -> &[f64] {
        self.given.sigmas()
    }

    /// The next round, and what comes behind it over its window.
    pub(crate) fn ahead(&mut self) -> Ahead<'_> {
        let (index, window_evaluations) = (self.next, self.window_evaluations);
        Ahead { index, rounds: self.held.make_contiguous(), window_evaluations }
    }

    /// The next round is done; `sampler` gives what comes behind it.
    pub(crate) fn take(&mut self, sampler: &dyn AnySampler) -> Result<Option<Round>> {
        let Some(done) = self.held.pop_front() else { return Ok(None) };
        self.next += 1;
        self.window_evaluations = match self.held.front() {
            Some(next) if window(next) == window(&done) => {
                self.window_evaluations.saturating_add(done.evaluations)
            }
            _ => 0,
        };
        self.hold_window(sampler)?;
        Ok(Some(done))
    }

    /// Sigma of each latent frame in the first of these rounds that updates it; 0 for a frame that
    /// none of them does.
    pub(crate) fn begins(&self, sampler: &dyn AnySampler) -> Result<Vec<f64>> {
        let mut begins = vec![None; self.given.sigmas().len()];
        let mut rounds = self.clone();
        while let Some(round) = rounds.take(sampler)? {
            for level in round.levels.iter().filter(|level| level.update) {
                begins[level.frame as usize].get_or_insert(level.sigma);
            }
        }
        Ok(begins.into_iter().map(|sigma| sigma.unwrap_or(0.0)).collect())
    }

    /// The streams of these rounds, one after the other, until `cancel` is set.
    pub(crate) fn each_stream(
        mut self,
        sampler: &dyn AnySampler,
        boundary: Option<f64>,
        cancel: &Cancel,
        mut see: impl FnMut(&Stream) -> Result<()>,
    ) -> Result<()> {
        while !self.is_empty() {
            cancel.check()?;
            let stream = Stream::begin(&self.ahead(), boundary);
            see(&stream)?;
            while self.held.front().is_some_and(|round| stream.holds(round, boundary)) {
                self.take(sampler)?;
            }
        }
        Ok(())
    }

    /// What a saved run has to know of them.
    pub(crate) fn state(&self) -> RoundsState {
        RoundsState { size: self.size, next: self.next, held: self.held.clone() }
    }

    /// Number of the last of these rounds that reads each latent frame; none where none does.
    pub(crate) fn last_readers(&self, sampler: &dyn AnySampler) -> Result<Vec<Option<usize>>> {
        let mut readers = vec![None; self.given.sigmas().len()];
        let mut rounds = self.clone();
        while let Some(round) = rounds.take(sampler)? {
            let window = round.first_frame()..round.first_frame() + round.len();
            readers[window].fill(Some(rounds.next - 1));
        }
        Ok(readers)
    }

    /// These rounds from those of a saved run on; those before are shown to `done`.
    ///
    /// # Errors
    /// If the saved run had others.
    pub(crate) fn resume(
        mut self,
        sampler: &dyn AnySampler,
        state: &RoundsState,
        mut done: impl FnMut(&Round),
    ) -> Result<Self> {
        let other = |size: ScheduleSize| {
            Error::invalid(format!(
                "the saved run had another schedule, of {} rounds; this one has {}: resume it with \
                 the same sampler, options, size and steps",
                state.size.rounds, size.rounds
            ))
        };
        if self.size != state.size {
            return Err(other(self.size));
        }
        while self.next < state.next {
            let Some(round) = self.take(sampler)? else { return Err(other(self.size)) };
            done(&round);
        }
        if self.held != state.held {
            return Err(other(self.size));
        }
        Ok(self)
    }

    /// Asks for more until the window of the first round that is held is known to its end.
    fn hold_window(&mut self, sampler: &dyn AnySampler) -> Result<()> {
        while self.asks_for_more()? {
            self.take_next_part(sampler)?;
        }
        Ok(())
    }

    /// Whether the window of the first round may go on behind those that are held.
    fn asks_for_more(&self) -> Result<bool> {
        let given = self.given.seen().rounds;
        let asks = given < self.size.rounds && self.is_one_window();
        if asks && self.held.len() > HELD_MAX {
            let first = self.held.front().map_or(0, Round::first_frame);
            return Err(self.wrong(format!(
                "round {given}: more than {HELD_MAX} rounds came over the window at frame {first}, \
                 and {} are to come",
                self.size.rounds - given
            )));
        }
        Ok(asks)
    }

    fn take_next_part(&mut self, sampler: &dyn AnySampler) -> Result<()> {
        let part = sampler.schedule_from(self.given.seen().rounds);
        self.take_in(part.map_err(Error::strategy(&self.chosen.strategy.id))?)
    }

    /// A schedule that is none.
    fn wrong(&self, what: String) -> Error {
        Error::strategy(&self.chosen.strategy.id)(PluginError::failed(what))
    }

    fn is_one_window(&self) -> bool {
        match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => window(first) == window(last),
            _ => true,
        }
    }

    /// Checks a part of the schedule and holds it.
    fn take_in(&mut self, part: Schedule) -> Result<()> {
        let id = self.chosen.strategy.id.clone();
        let (from, left) = {
            let given = self.given.seen().rounds;
            (given, self.size.rounds - given)
        };
        let came = part.rounds.len();
        if part.size() != self.size || came > left || (came == 0 && left > 0) {
            return Err(self.wrong(format!(
                "round {from}: {came} rounds of {:?} came, where {left} are left of {:?}",
                part.size(),
                self.size
            )));
        }
        for round in part.rounds {
            self.given.see(&round).map_err(Error::strategy(&id))?;
            self.held.push_back(round);
        }
        let seen = self.given.seen();
        let to_come = ScheduleSize {
            rounds: self.size.rounds - seen.rounds,
            evaluations: self.size.evaluations.saturating_sub(seen.evaluations),
        };
        // Each round that is to come has an evaluation at least; all are done with the last one.
        let too_few = seen.evaluations > self.size.evaluations || to_come.check().is_err();
        if too_few || (to_come.rounds == 0 && to_come.evaluations > 0) {
            return Err(self.wrong(format!("a schedule of {:?} has {:?}", self.size, seen)));
        }
        if to_come.rounds > 0 {
            return Ok(());
        }
        let ended = handover::check_end(self.given.sigmas(), self.may_end_noisy);
        ended.map_err(|error| self.chosen.blame(error))
    }
}

/// First latent frame of a round's window, and number of frames.
fn window(round: &Round) -> (usize, usize) {
    (round.first_frame(), round.len())
}

#[cfg(test)]
mod tests {
    use wan_plugin_api::{
        Attention, Denoise, FrameLevel, Message, Result as PluginResult, Step, Tensor, TensorOps,
    };

    use super::*;
    use crate::plugins::kind::Kind;
    use crate::plugins::registry::Registry;

    /// A day at 16 frames a second: windows of three frames, each with three rounds.
    const WINDOWS: usize = 172_800;
    const STEPS: usize = 3;

    /// A sampler that is its schedule.
    struct Scheduled<F>(F);

    impl<F: Fn(usize) -> Schedule + Send> AnySampler for Scheduled<F> {
        fn schedule_from(&self, from: usize) -> PluginResult<Schedule> {
            Ok((self.0)(from))
        }

        fn step(
            &mut self,
            sample: &Tensor,
            _: &Step<'_>,
            _: &mut dyn Denoise,
            _: &dyn TensorOps,
        ) -> PluginResult<Tensor> {
            Ok(sample.clone())
        }

        fn extension(&mut self, _: &str, _: Message, _: &dyn TensorOps) -> PluginResult<Message> {
            Ok(Message::default())
        }
    }

    /// Of the day, in parts of 64 rounds.
    fn day(from: usize) -> Schedule {
        let rounds = WINDOWS * STEPS;
        let round = |number: usize| {
            let (window, step) = (number / STEPS, number % STEPS);
            let sigma = |step: usize| 1.0 - step as f64 / STEPS as f64;
            let level = |frame| FrameLevel::moving(frame, 9.0, sigma(step), sigma(step + 1));
            let first = (2 * window) as u32;
            Round {
                levels: (first..first + 3).map(level).collect(),
                attention: Attention::Bidirectional,
                evaluations: 1,
            }
        };
        let part = (from..rounds.min(from + 64)).map(round).collect();
        Schedule::part_of(part, ScheduleSize { rounds, evaluations: rounds as u32 })
    }

    /// The same window round after round, in parts of one; its size is what it says.
    fn forever(from: usize, size: ScheduleSize) -> Schedule {
        let sigma = |step: usize| 1.0 / (1.0 + step as f64);
        let level = FrameLevel::moving(0, 9.0, sigma(from), sigma(from + 1));
        let attention = Attention::Bidirectional;
        Schedule::part_of(vec![Round { levels: vec![level], attention, evaluations: 2 }], size)
    }

    #[test]
    fn what_is_held_of_a_day_is_a_window_and_a_part() {
        let registry = Registry::built_in().unwrap();
        let chosen = registry.choose(Kind::Sampler, "euler", &[].into()).unwrap();
        let frames = (2 * WINDOWS + 1, 0);
        let sampler = Scheduled(day);
        let rounds = Rounds::of(&sampler, &chosen, frames, false, &Cancel::default());
        let (mut rounds, _) = rounds.unwrap();
        let (mut done, mut most) = (0, 0);
        while let Some(round) = rounds.take(&sampler).unwrap() {
            assert_eq!(round.first_frame(), 2 * (done / STEPS));
            assert_eq!(rounds.ahead().index, done + 1);
            done += 1;
            most = most.max(rounds.held.len());
        }
        assert_eq!((done, rounds.is_empty()), (WINDOWS * STEPS, true));
        assert!(most <= 64 + STEPS, "{most}");
        assert!(rounds.ends().iter().all(|sigma| *sigma == 0.0));
    }

    #[test]
    fn a_schedule_that_never_leaves_its_window_ends_with_an_error_or_when_it_is_stopped() {
        let registry = Registry::built_in().unwrap();
        let chosen = registry.choose(Kind::Sampler, "euler", &[].into()).unwrap();
        let of = |rounds, evaluations, cancel: &Cancel| {
            let size = ScheduleSize { rounds, evaluations };
            let sampler = Scheduled(|from| forever(from, size));
            Rounds::of(&sampler, &chosen, (1, 0), false, cancel).map(|_| ()).unwrap_err()
        };
        let goes_on = Cancel::default();
        for (rounds, evaluations, expected) in [
            (usize::MAX, u32::MAX, "each round has one at least"),
            (1 << 30, u32::MAX, "more than 65536 rounds came over the window at frame 0"),
            // Two evaluations a round are more than it says; that is noticed before they are done.
            (1000, 1001, "has ScheduleSize { rounds: 2, evaluations: 4 }"),
            (2, 9, "has ScheduleSize { rounds: 2, evaluations: 4 }"),
        ] {
            let said = of(rounds, evaluations, &goes_on).to_string();
            assert!(said.starts_with("euler: ") && said.contains(expected), "{rounds}: {said}");
        }
        let stopped = Cancel::default();
        stopped.cancel();
        assert!(matches!(of(1 << 30, u32::MAX, &stopped), Error::Cancelled));
    }
}
