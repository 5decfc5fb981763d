//! What came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::Ending;
use super::cases::Case;

/// Failures that are shown whole.
const SHOWN: usize = 30;

/// Where a process was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before its folder was there.
    BeforeTheFolder,
    /// While it loaded the model.
    Load,
    /// Between the first round and the last.
    Denoise,
    /// After the last round.
    Decode,
    /// While it wrote the final file.
    Write,
    /// When the final file was there.
    AfterTheVideo,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::BeforeTheFolder,
        Self::Load,
        Self::Denoise,
        Self::Decode,
        Self::Write,
        Self::AfterTheVideo,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::BeforeTheFolder => "before the folder",
            Self::Load => "load",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
            Self::Write => "write",
            Self::AfterTheVideo => "after the video",
        }
    }
}

/// A process that was ended.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Where.
    pub phase: Phase,
    /// From the signal to its end.
    pub after: Duration,
    /// Evaluations that are done again.
    pub lost: u64,
}

/// What is not as it should be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In a word or two.
    pub kind: &'static str,
    /// Where the process was ended before.
    pub phase: Option<Phase>,
    /// The case, and which of its runs.
    pub run: String,
    /// What was found.
    pub what: String,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    ending: Ending,
    /// Processes that were ended.
    pub stops: Vec<Stop>,
    /// Interrupts that came when there was nothing left to stop.
    pub late: usize,
    /// Runs that were compared.
    pub runs: usize,
    /// Evaluations beyond those of the quiet runs.
    pub extra: u64,
    /// What is not as it should be.
    pub failures: Vec<Failure>,
    solvers: BTreeSet<&'static str>,
    caches: BTreeSet<&'static str>,
    ways: BTreeSet<String>,
    cases: usize,
    /// Cases with a cache that has reused nothing.
    idle: Vec<String>,
}

impl Report {
    pub(super) fn new(ending: Ending) -> Self {
        Self {
            ending,
            stops: Vec::new(),
            late: 0,
            runs: 0,
            extra: 0,
            failures: Vec::new(),
            solvers: BTreeSet::new(),
            caches: BTreeSet::new(),
            ways: BTreeSet::new(),
            cases: 0,
            idle: Vec::new(),
        }
    }

    pub(super) fn see_quiet(&mut self, case: &Case, reused: u64) {
        self.cases += 1;
        self.solvers.insert(case.solver);
        self.caches.insert(case.cache);
        self.ways.insert(format!("{:?}", case.way));
        if case.cache != "none" && reused == 0 {
            self.idle.push(case.to_string());
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.stops.extend(other.stops);
        self.late += other.late;
        self.runs += other.runs;
        self.extra += other.extra;
        self.failures.extend(other.failures);
        self.solvers.extend(other.solvers);
        self.caches.extend(other.caches);
        self.ways.extend(other.ways);
        self.cases += other.cases;
        self.idle.extend(other.idle);
    }

    /// What came of a case, in a line.
    pub(super) fn line(&self) -> String {
        let stops: Vec<&str> = self.stops.iter().map(|stop| stop.phase.name()).collect();
        format!("{}; {} failures", stops.join(", "), self.failures.len())
    }

    /// The middle and the longest time from the signal to the end.
    pub fn times(&self) -> Option<[Duration; 2]> {
        let mut times: Vec<Duration> = self.stops.iter().map(|stop| stop.after).collect();
        times.sort_unstable();
        Some([*times.get(times.len() / 2)?, *times.last()?])
    }

    fn row(&self, phase: Phase) -> [String; 4] {
        let stops = || self.stops.iter().filter(|stop| stop.phase == phase);
        let failures = self.failures.iter().filter(|failure| failure.phase == Some(phase)).count();
        let lost: u64 = stops().map(|stop| stop.lost).sum();
        let row = [stops().count(), failures].map(|count| count.to_string());
        let [stops, failures] = row;
        [phase.name().into(), stops, failures, lost.to_string()]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.ending {
            Ending::Kill => "kills",
            Ending::Interrupt => "interrupts",
        };
        let [cases, solvers, caches, ways] =
            [self.cases, self.solvers.len(), self.caches.len(), self.ways.len()];
        writeln!(f, "{cases} cases: {solvers} solvers, {caches} caches, {ways} ways")?;
        writeln!(f, "| phase | {what} | failures | extra evaluations |\n|---|---|---|---|")?;
        for phase in Phase::ALL {
            writeln!(f, "| {} |", self.row(phase).join(" | "))?;
        }
        let (stops, failures) = (self.stops.len(), self.failures.len());
        writeln!(f, "| all | {stops} | {failures} | {} |", self.extra)?;
        if self.ending == Ending::Interrupt {
            let [median, longest] = self.times().unwrap_or_default();
            let [median, longest] = [median, longest].map(|time| time.as_secs_f64() * 1e3);
            writeln!(f, "from the signal to the exit: median {median:.0} ms, max {longest:.0} ms")?;
            writeln!(f, "{} more came when nothing was left to stop", self.late)?;
        }
        for case in &self.idle {
            writeln!(f, "reused nothing: {case}")?;
        }
        let mut kinds = BTreeMap::new();
        for failure in &self.failures {
            *kinds.entry(failure.kind).or_insert(0) += 1;
        }
        for (kind, count) in kinds {
            writeln!(f, "FAILED {count} x {kind}")?;
        }
        for Failure { kind, phase, run, what } in self.failures.iter().take(SHOWN) {
            let phase = phase.map_or("no stop", Phase::name);
            writeln!(f, "FAILED {run}, ended in {phase}: {kind}: {what}")?;
        }
        Ok(())
    }
}
