//! Which round is which row of which chunk, without the rows.
//!
//! All chunks between the first and the last have the same rows: they differ in where they lie. So
//! three chunks are counted, however long the video is.

use wan_plugin_api::ScheduleSize;

/// The rounds of all chunks, one chunk after the other.
#[derive(Debug)]
pub(crate) struct Rounds {
    chunks: usize,
    first: ScheduleSize,
    /// Of each chunk that is neither the first nor the last.
    between: ScheduleSize,
    last: ScheduleSize,
}

impl Rounds {
    /// Counts the rounds of `chunks` chunks, at least one. `count` counts those of one.
    pub(crate) fn new(chunks: usize, count: impl Fn(usize) -> ScheduleSize) -> Self {
        let (first, none) = (count(0), ScheduleSize::default());
        let between = if chunks > 2 { count(1) } else { none };
        let last = if chunks > 1 { count(chunks - 1) } else { none };
        Self { chunks, first, between, last }
    }

    /// All of them.
    pub(crate) fn size(&self) -> ScheduleSize {
        let between = self.chunks.saturating_sub(2);
        let times = u32::try_from(between).unwrap_or(u32::MAX);
        let evaluations = self.between.evaluations.saturating_mul(times);
        ScheduleSize {
            rounds: self.first.rounds + between * self.between.rounds + self.last.rounds,
            evaluations: (self.first.evaluations)
                .saturating_add(evaluations)
                .saturating_add(self.last.evaluations),
        }
    }

    /// The chunk of a round, and the row there; none behind the last round.
    pub(crate) fn find(&self, round: usize) -> Option<(usize, usize)> {
        let Some(behind_first) = round.checked_sub(self.first.rounds) else {
            return Some((0, round));
        };
        let between = self.chunks.saturating_sub(2);
        match behind_first.checked_sub(between * self.between.rounds) {
            None => {
                let rounds = self.between.rounds;
                Some((1 + behind_first / rounds, behind_first % rounds))
            }
            Some(row) => (row < self.last.rounds).then_some((self.chunks - 1, row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_the_row_that_counting_finds() {
        let rows = [4, 5, 5, 5, 2];
        for chunks in 1..=5 {
            let of = |chunk: usize| if chunk + 1 == chunks && chunk > 0 { 2 } else { rows[chunk] };
            let rounds = Rounds::new(chunks, |chunk| ScheduleSize {
                rounds: of(chunk),
                evaluations: 2 * of(chunk) as u32,
            });
            let expected: Vec<(usize, usize)> =
                (0..chunks).flat_map(|chunk| (0..of(chunk)).map(move |row| (chunk, row))).collect();
            let found: Vec<_> = (0..expected.len()).map(|i| rounds.find(i).unwrap()).collect();
            assert_eq!(found, expected);
            assert_eq!(rounds.find(expected.len()), None);
            let size = rounds.size();
            assert_eq!(size.rounds, expected.len());
            assert_eq!(size.evaluations, 2 * expected.len() as u32);
        }
    }
}
