//! Drives a cache over a recording: what it would decide, and how wrong each reuse would be.
//!
//! The recorded path is the uncached one. A real run leaves it as soon as something is reused, so
//! the errors are those of single reuses along the true path, not of the video in the end.

use candle_core::{Device, Tensor};
use serde::Serialize;
use wan_host::parts::{CacheMemory, Chosen, HostOps, Item, Noise};
use wan_host::{Error, Result};
use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Action, CacheContext, Choice, DecisionPoint, Evaluation, Replaces, Signal, Tensor as Handle,
};

use super::file::Recording;
use super::recorder::relative;

/// What a cache would have done.
#[derive(Debug, Clone, Serialize)]
pub struct Replay {
    /// Names of what was measured.
    pub measures: Vec<String>,
    /// One entry per evaluation and branch.
    pub evaluations: Vec<Replayed>,
    /// Evaluations over those computed.
    pub saved: f64,
    /// Mean error of the reuses, over updated frames; none where nothing was reused.
    pub mean_error: Option<f64>,
    /// Largest error of a reuse.
    pub worst_error: Option<f64>,
    /// What the caches declared and held.
    pub memory: CacheMemory,
}

/// One branch of one evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Replayed {
    /// Evaluation of the recording.
    pub evaluation: usize,
    /// Guidance branch.
    pub branch: String,
    /// Compute or reuse.
    pub choice: Choice,
    /// What the cache measured.
    pub measured: Vec<f64>,
    /// Per frame, `sum |reused - computed| / sum |computed|` of what the reuse stands in for; empty
    /// where it was computed.
    pub errors: Vec<f64>,
    /// Mean of these over the frames that the evaluation updates.
    pub error: Option<f64>,
}

/// A cache object on its stream.
struct BranchReplay {
    branch: String,
    cache: CacheInstance,
    ops: HostOps,
}

impl Replay {
    /// Replays a recording.
    ///
    /// # Errors
    /// What the cache says, or if it decides where nothing was recorded.
    pub fn of(recording: &Recording, chosen: &Chosen) -> Result<Self> {
        let contents = recording.contents();
        let mut streams: Vec<BranchReplay> = Vec::new();
        let mut evaluations = Vec::new();
        let (mut memory, mut measures) = (CacheMemory::default(), Vec::new());
        for (number, evaluation) in contents.evaluations.iter().enumerate() {
            if evaluation.index == 0 {
                let stream = &contents.streams[evaluation.stream];
                let begin = stream.branches.iter().map(|b| begin(chosen, &stream.context, b));
                streams = begin.collect::<Result<_>>()?;
                let declared = streams.iter().map(|s| s.cache.plan().bytes_max);
                memory.declare(&declared.collect::<Vec<u64>>());
            }
            let mut leader = None;
            for stream in &mut streams {
                let replayed = stream.evaluate(recording, number, leader, chosen)?;
                leader = leader.or(Some(replayed.choice));
                measures.clone_from(&stream.cache.plan().measures);
                evaluations.push(replayed);
            }
            memory.see(streams.iter().map(|s| s.ops.ledger()));
        }
        let computed = evaluations.iter().filter(|e| e.choice == Choice::Compute).count();
        let errors: Vec<f64> = evaluations.iter().filter_map(|e| e.error).collect();
        Ok(Self {
            saved: evaluations.len() as f64 / computed.max(1) as f64,
            mean_error: (!errors.is_empty())
                .then(|| errors.iter().sum::<f64>() / errors.len() as f64),
            worst_error: errors.iter().copied().reduce(f64::max),
            evaluations,
            measures,
            memory,
        })
    }
}

fn begin(chosen: &Chosen, context: &CacheContext, branch: &str) -> Result<BranchReplay> {
    let context = CacheContext { branch: branch.into(), ..context.clone() };
    let ops = HostOps::new(Device::Cpu, Noise::new(0), Default::default());
    let stream = BranchReplay { branch: branch.into(), cache: chosen.cache(&context)?, ops };
    match stream.cache.plan().decides {
        DecisionPoint::AfterBlock(block) if block > 0 => Err(Error::invalid(format!(
            "{} decides after block {block}; a recording has what happens before the blocks and \
             after block 0",
            chosen.strategy.id
        ))),
        _ => Ok(stream),
    }
}

impl BranchReplay {
    fn evaluate(
        &mut self,
        recording: &Recording,
        number: usize,
        leader: Option<Choice>,
        chosen: &Chosen,
    ) -> Result<Replayed> {
        let recorded = &recording.contents().evaluations[number];
        let stream = &recording.contents().streams[recorded.stream];
        let strategy = || Error::strategy(&chosen.strategy.id);
        let plan = self.cache.plan().clone();
        let (computed, axis) = self.computed(recording, number)?;
        let frames = recorded.levels.len();
        let handle = self.ops.wrap(Item::Computed, computed.clone(), axis, frames);
        let form = handle.map_err(strategy())?.form();
        let signals = plan.reads.iter();
        let signals = signals.map(|s| Ok((*s, self.signal(recording, number, *s)?)));
        let signals = signals.collect::<Result<Vec<(Signal, Handle)>>>()?;
        let evaluation = Evaluation {
            index: recorded.index,
            remaining: stream.context.evaluations.saturating_sub(recorded.index + 1),
            leader: leader.filter(|_| plan.shared_decision),
            levels: &recorded.levels,
            computes: form,
            signals: &signals,
        };
        let decision = self.cache.decide(&evaluation, &self.ops).map_err(strategy())?;
        let choice = decision.choice();
        let mut errors = Vec::new();
        match decision.action {
            Action::Compute { keep: false } => {}
            Action::Compute { keep: true } => {
                let handle = self.ops.wrap(Item::Computed, computed, axis, frames);
                let stored = handle.and_then(|h| self.cache.store(&h, &self.ops));
                stored.map_err(strategy())?;
            }
            Action::Reuse(tensor) => {
                let reused = self.ops.unwrap(&tensor).map_err(strategy())?;
                errors = relative(&reused, &computed, axis, frames)?;
            }
        }
        let moving = errors.iter().zip(&recorded.levels).filter(|(_, level)| level.update);
        let moving: Vec<f64> = moving.map(|(error, _)| *error).collect();
        Ok(Replayed {
            evaluation: number,
            branch: self.branch.clone(),
            choice,
            measured: decision.measured,
            error: (!moving.is_empty()).then(|| moving.iter().sum::<f64>() / moving.len() as f64),
            errors,
        })
    }

    fn tensor(&self, recording: &Recording, number: usize, name: &str) -> Result<Tensor> {
        recording.tensor(number, &format!("{}.{name}", self.branch))
    }

    /// What `store` would be given, and the axis of its frames.
    fn computed(&self, recording: &Recording, number: usize) -> Result<(Tensor, usize)> {
        let plan = self.cache.plan();
        if plan.replaces == Replaces::OutputDelta {
            let velocity = self.tensor(recording, number, "velocity")?;
            return Ok((
                (velocity - recording.tensor(number, "sample")?)?,
                HostOps::LATENT_FRAME_AXIS,
            ));
        }
        let residual = self.tensor(recording, number, "residual")?;
        match plan.decides {
            DecisionPoint::AfterBlock(_) => {
                Ok(((residual - self.tensor(recording, number, "probe")?)?, HostOps::TOKEN_AXIS))
            }
            _ => Ok((residual, HostOps::TOKEN_AXIS)),
        }
    }

    fn signal(&self, recording: &Recording, number: usize, signal: Signal) -> Result<Handle> {
        let recorded = &recording.contents().evaluations[number];
        let (frames, after_block) = (
            recorded.levels.len(),
            matches!(self.cache.plan().decides, DecisionPoint::AfterBlock(_)),
        );
        let rows = |item, name: &str| {
            let rows = recording.tensor(number, name)?;
            Ok::<_, Error>(self.ops.wrap_rows(item, rows, recorded.rows.clone(), frames))
        };
        let hidden = || self.tensor(recording, number, "hidden");
        let probe = || self.tensor(recording, number, "probe");
        let handle = match signal {
            Signal::Sample => {
                let sample = recording.tensor(number, "sample")?;
                self.ops.wrap(Item::Sample, sample, HostOps::LATENT_FRAME_AXIS, frames)
            }
            Signal::TimeEmbedding => rows(Item::TimeEmbedding, "e")?,
            Signal::TimeProjection => rows(Item::TimeProjection, "e0")?,
            Signal::Hidden => {
                let hidden = if after_block { (hidden()? + probe()?)? } else { hidden()? };
                self.ops.wrap(Item::Hidden, hidden, HostOps::TOKEN_AXIS, frames)
            }
            Signal::Probe => {
                let probe = if after_block { probe()? } else { hidden()?.zeros_like()? };
                self.ops.wrap(Item::Probe, probe, HostOps::TOKEN_AXIS, frames)
            }
        };
        handle.map_err(|e| Error::invalid(e.message))
    }
}
