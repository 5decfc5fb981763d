//! What happened during a run: decisions, and bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use wan_model::Embedded;
use wan_plugin_api::{CachePlan, Choice, FrameLevel};

use crate::ledger::{Holding, Ledger};

/// One branch of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Round of the schedule, from 0.
    pub round: usize,
    /// Evaluation in the cache's stream, from 0.
    pub evaluation: u32,
    /// Guidance branch.
    pub branch: Cow<'static, str>,
    /// Which expert of the model.
    pub expert: usize,
    /// Compute or reuse.
    pub choice: Choice,
    /// What the cache measured, in the order of its plan's `measures`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_nan")]
    pub measured: Vec<f64>,
    /// Where the cache decides for blocks of frames: each block, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockRecord>,
    /// What the evaluation took, decision included; not part of the sidecar, which two equal runs
    /// have in common.
    #[serde(skip)]
    pub seconds: f64,
}

/// What became of a block of frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Frames of the block.
    pub frames: u32,
    /// Compute or reuse.
    pub choice: Choice,
    /// What the cache measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_nan")]
    pub measured: Vec<f64>,
}

/// Latent frames of all evaluations and branches together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameCount {
    /// Those whose velocity the sampler uses and the cache has not reused.
    pub asked: u64,
    /// Those that went through the transformer's blocks.
    pub computed: u64,
}

impl FrameCount {
    /// Takes note of one branch of an evaluation; `blocks` has what was chosen for each block of
    /// frames, where the cache decides for them.
    pub(crate) fn see(&mut self, levels: &[FrameLevel], choice: Choice, blocks: &[(u32, Choice)]) {
        if choice == Choice::Reuse {
            return;
        }
        let by_frame = blocks.iter().flat_map(|(frames, choice)| (0..*frames).map(|_| *choice));
        // Without blocks, all frames.
        let choices = by_frame.chain(std::iter::repeat(choice));
        let is_asked = |(level, choice): &(&FrameLevel, Choice)| {
            level.wants_velocity && *choice == Choice::Compute
        };
        self.asked += levels.iter().zip(choices).filter(is_asked).count() as u64;
        self.computed += levels.len() as u64;
    }
}

impl EvaluationRecord {
    /// The guidance branches of a run, each once.
    pub fn branches(records: &[Self]) -> Vec<&str> {
        let mut names: Vec<&str> = records.iter().map(|r| &*r.branch).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The decisions of one branch in order, as `C` and `s`.
    pub fn decision_map(records: &[Self], branch: &str) -> String {
        let letter = |record: &Self| if record.choice == Choice::Compute { 'C' } else { 's' };
        records.iter().filter(|r| r.branch == branch).map(letter).collect()
    }
}

/// Largest time signals that one evaluation held: one row per distinct timestep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalMemory {
    /// Most distinct timesteps, K.
    pub rows: usize,
    /// `K * D * 4` bytes.
    pub e_bytes: u64,
    /// `K * 6 * D * 4` bytes.
    pub e0_bytes: u64,
    /// What `e0` would take with one row per token.
    pub e0_bytes_per_token: u64,
}

impl SignalMemory {
    /// Takes note of one evaluation.
    pub(crate) fn see(&mut self, embedded: &Embedded) {
        let tokens = embedded.hidden.dims()[1] as u64;
        let (e, e0) = (embedded.e.bytes() as u64, embedded.e0.bytes() as u64);
        self.rows = self.rows.max(embedded.e.distinct());
        self.e_bytes = self.e_bytes.max(e);
        self.e0_bytes = self.e0_bytes.max(e0);
        let row = e0 / embedded.e0.distinct() as u64;
        self.e0_bytes_per_token = self.e0_bytes_per_token.max(tokens * row);
    }
}

/// What the caches declared and what their handles held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMemory {
    /// What one branch's cache said it would hold at most.
    pub declared_per_branch: u64,
    /// What all branches' caches said they would hold at most.
    pub declared_max: u64,
    /// Most that one branch's cache held.
    pub held_per_branch_max: u64,
    /// Most that all branches' caches held at once.
    pub held_max: u64,
    /// Of what that was made.
    pub holdings: Vec<Holding>,
    /// Alive after the caches were dropped: a plugin's leak.
    pub leaked: u64,
}

impl CacheMemory {
    /// Takes note of what each branch's cache of a stream declares.
    pub fn declare(&mut self, branches: &[u64]) {
        let most = branches.iter().copied().max().unwrap_or(0);
        self.declared_per_branch = self.declared_per_branch.max(most);
        // They may declare whatever they like.
        let all = branches.iter().fold(0, |all: u64, own| all.saturating_add(*own));
        self.declared_max = self.declared_max.max(all);
    }

    /// Takes note of what each branch's cache holds after an evaluation.
    pub fn see<'l>(&mut self, ledgers: impl Iterator<Item = &'l Arc<Ledger>> + Clone) {
        let held: Vec<u64> = ledgers.clone().map(|ledger| ledger.settle()).collect();
        let (all, most) = (held.iter().sum(), held.iter().copied().max().unwrap_or(0));
        self.held_per_branch_max = self.held_per_branch_max.max(most);
        if all <= self.held_max {
            return;
        }
        self.held_max = all;
        let mut sums: Vec<Holding> = Vec::new();
        for one in ledgers.flat_map(|ledger| ledger.holdings()) {
            match sums.iter_mut().find(|s| (s.item, s.place) == (one.item, one.place)) {
                Some(sum) => sum.bytes += one.bytes,
                None => sums.push(one),
            }
        }
        self.holdings = sums;
    }
}

/// What is written down while a run goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// One entry per evaluation and branch that a cache decided, but for those that were handed out.
    #[serde(skip)]
    pub(crate) records: Vec<EvaluationRecord>,
    /// All decisions, counted.
    pub(crate) decisions: DecisionTally,
    /// Latent frames that were asked for and that were computed.
    pub(crate) frames: FrameCount,
    /// Largest time signals.
    pub(crate) signals: SignalMemory,
    /// What the caches declared and held.
    pub(crate) cache_memory: CacheMemory,
    /// What the first cache said of itself.
    pub(crate) cache_plan: Option<CachePlan>,
}

impl Tally {
    /// Takes note of what the caches of a stream say of themselves, one for each branch.
    pub(crate) fn see_plans<'p>(&mut self, plans: impl Iterator<Item = &'p CachePlan> + Clone) {
        let declared: Vec<u64> = plans.clone().map(|plan| plan.bytes_max).collect();
        self.cache_memory.declare(&declared);
        if self.cache_plan.is_none() {
            self.cache_plan = plans.clone().next().cloned();
        }
    }
}

/// Decisions, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionCount {
    /// Evaluations whose blocks ran.
    pub computed: usize,
    /// Evaluations that reused.
    pub reused: usize,
    /// Longest run of reuses in one branch.
    pub reused_in_a_row: usize,
}

impl DecisionCount {
    /// Counts one branch, or all.
    pub fn of(records: &[EvaluationRecord], branch: Option<&str>) -> Self {
        let mut tally = DecisionTally::default();
        let counted = records.iter().filter(|r| branch.is_none_or(|b| b == r.branch));
        counted.for_each(|record| tally.see(record));
        tally.all()
    }

    /// Share of evaluations that reused, 0 to 1.
    pub fn reused_share(&self) -> f64 {
        self.reused as f64 / (self.computed + self.reused).max(1) as f64
    }
}

/// Decisions of each branch, counted one by one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionTally {
    branches: BTreeMap<Cow<'static, str>, BranchDecisions>,
}

/// Decisions of a branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct BranchDecisions {
    count: DecisionCount,
    /// Reuses since the last compute.
    in_a_row: usize,
    /// Seconds of evaluations that computed, and of those that reused.
    seconds: [f64; 2],
}

impl DecisionTally {
    /// Takes note of a decision.
    pub fn see(&mut self, record: &EvaluationRecord) {
        let own = self.branches.entry(record.branch.clone()).or_default();
        let BranchDecisions { count, in_a_row, seconds } = own;
        match record.choice {
            Choice::Compute => (count.computed, *in_a_row) = (count.computed + 1, 0),
            Choice::Reuse => (count.reused, *in_a_row) = (count.reused + 1, *in_a_row + 1),
        }
        count.reused_in_a_row = count.reused_in_a_row.max(*in_a_row);
        seconds[usize::from(record.choice == Choice::Reuse)] += record.seconds;
    }

    /// All branches together.
    pub fn all(&self) -> DecisionCount {
        let together = |all: DecisionCount, own: &BranchDecisions| DecisionCount {
            computed: all.computed + own.count.computed,
            reused: all.reused + own.count.reused,
            reused_in_a_row: all.reused_in_a_row.max(own.count.reused_in_a_row),
        };
        self.branches.values().fold(DecisionCount::default(), together)
    }

    /// Each branch by itself.
    pub fn branches(&self) -> impl Iterator<Item = (&str, DecisionCount)> {
        self.branches.iter().map(|(name, own)| (&**name, own.count))
    }

    /// Seconds that reuses saved: what as many computed evaluations took on average, less what the
    /// reuses took.
    pub fn seconds_saved(&self) -> f64 {
        let DecisionCount { computed, reused, .. } = self.all();
        let seconds = |which: usize| self.branches.values().map(|b| b.seconds[which]).sum::<f64>();
        let mean = seconds(0) / computed.max(1) as f64;
        if computed == 0 { 0.0 } else { reused as f64 * mean - seconds(1) }
    }
}

/// Numbers of a list, in which what JSON has no number for is null.
fn or_nan<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(from)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}
