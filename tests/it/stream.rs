//! A small world for cache properties: the time signals of a schedule, and blocks whose residual
//! is known, run through a cache of a loaded library.

use std::sync::Arc;

use candle_core::{Device, Tensor as CandleTensor};
use proptest::prelude::*;
use wan_host::ledger::Item;
use wan_host::noise::Noise;
use wan_host::ops::HostOps;
use wan_host::registry::{Kind, Registry};
use wan_plugin_api::epoch1::CacheInstance;
use wan_plugin_api::{
    Action, Choice, Evaluation, FrameLevel, OptionValues, Replaces, Signal, Tensor,
};

use crate::plugin_door::context;

/// Width of the signals.
const DIM: usize = 4;
/// Tokens of one frame.
const FRAME_TOKENS: usize = 2;

/// Evaluations of one stream: the levels of each.
pub(crate) type Levels = Vec<Vec<FrameLevel>>;

/// Levels of three frames that fall at their own pace; a frame that has reached 0 is context.
pub(crate) fn levels() -> impl Strategy<Value = Levels> {
    let frame = (0usize..6, prop::collection::vec(20u32..180, 4..14));
    prop::collection::vec(frame, 3).prop_map(|frames| {
        let evaluations = frames.iter().map(|(start, steps)| start + steps.len()).max().unwrap();
        (0..evaluations).map(|evaluation| levels_at(&frames, evaluation)).collect()
    })
}

fn levels_at(frames: &[(usize, Vec<u32>)], evaluation: usize) -> Vec<FrameLevel> {
    let level = |(number, (start, steps)): (usize, &(usize, Vec<u32>))| {
        let timestep_after = |count: usize| {
            let fallen: u32 = steps.iter().take(count).sum();
            f64::from(999u32.saturating_sub(fallen))
        };
        let done = evaluation.saturating_sub(*start).min(steps.len());
        let now = timestep_after(done);
        match evaluation >= *start && done < steps.len() {
            true => {
                let next = timestep_after(done + 1);
                FrameLevel::moving(number as u32, now, now / 1000.0, next / 1000.0)
            }
            false => FrameLevel::frozen(number as u32, now, now / 1000.0),
        }
    };
    frames.iter().enumerate().map(level).collect()
}

/// How the time signals are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// One row per distinct timestep, as the host does.
    Distinct,
    /// One row per token, as the references do.
    PerToken,
}

/// One stream of one cache, driven evaluation by evaluation.
pub(crate) struct Stream {
    cache: CacheInstance,
    ops: HostOps,
    hidden: CandleTensor,
    rows: Rows,
    /// `C` and `s`, in order.
    pub(crate) decisions: String,
    /// What the cache measured, in order.
    pub(crate) measured: Vec<Vec<f64>>,
    /// Most bytes that the cache held between calls.
    pub(crate) held_max: u64,
}

impl Stream {
    pub(crate) fn new(
        registry: &Registry,
        id: &str,
        options: &OptionValues,
        evaluations: usize,
    ) -> Self {
        let chosen = registry.choose(Kind::Cache, id, options).unwrap();
        let cache = chosen.cache(&context(evaluations as u32)).unwrap();
        let ops = HostOps::new(Device::Cpu, Noise::new(0), Arc::default());
        let hidden =
            CandleTensor::ones((1, 3 * FRAME_TOKENS, DIM), candle_core::DType::F32, &Device::Cpu);
        Self {
            cache,
            ops,
            hidden: hidden.unwrap(),
            rows: Rows::Distinct,
            decisions: String::new(),
            measured: Vec::new(),
            held_max: 0,
        }
    }

    pub(crate) fn with_rows(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    /// What the cache said it would hold at most.
    pub(crate) fn declared(&self) -> u64 {
        self.cache.plan().bytes_max
    }

    /// The hidden states now, as bits.
    pub(crate) fn bits(&self) -> Vec<u32> {
        let values = self.hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    /// One evaluation of `all`.
    pub(crate) fn evaluate(&mut self, index: usize, all: &Levels) {
        let levels = &all[index];
        let signals: Vec<(Signal, Tensor)> = self
            .cache
            .plan()
            .reads
            .clone()
            .into_iter()
            .map(|signal| (signal, self.signal(signal, levels)))
            .collect();
        assert_eq!(self.cache.plan().replaces, Replaces::Residual);
        let residual = residual(&self.hidden, index);
        let computes =
            self.ops.wrap(Item::Computed, residual.clone(), 1, levels.len()).unwrap().form();
        let evaluation = Evaluation {
            index: index as u32,
            remaining: (all.len() - index - 1) as u32,
            leader: None,
            levels,
            computes,
            signals: &signals,
        };
        let decision = self.cache.decide(&evaluation, &self.ops).unwrap();
        self.decisions.push(if decision.choice() == Choice::Compute { 'C' } else { 's' });
        self.measured.push(decision.measured.clone());
        let added = match decision.action {
            Action::Reuse(tensor) => self.ops.unwrap(&tensor).unwrap(),
            Action::Compute { keep } => {
                if keep {
                    let handle =
                        self.ops.wrap(Item::Computed, residual.clone(), 1, levels.len()).unwrap();
                    self.cache.store(&handle, &self.ops).unwrap();
                }
                residual
            }
        };
        self.hidden = (&self.hidden + added).unwrap();
        drop(signals);
        self.held_max = self.held_max.max(self.ops.ledger().settle());
    }

    /// All evaluations.
    pub(crate) fn run(mut self, all: &Levels) -> Self {
        (0..all.len()).for_each(|index| self.evaluate(index, all));
        self
    }

    fn signal(&self, signal: Signal, levels: &[FrameLevel]) -> Tensor {
        let width = if signal == Signal::TimeProjection { 6 * DIM } else { DIM };
        let row = |level: &FrameLevel| embedding(level.timestep, width);
        match self.rows {
            Rows::PerToken => {
                let rows: Vec<f32> =
                    levels.iter().flat_map(|l| row(l).repeat(FRAME_TOKENS)).collect();
                let shape = (levels.len() * FRAME_TOKENS, width);
                let rows = CandleTensor::from_vec(rows, shape, &Device::Cpu).unwrap();
                self.ops.wrap(Item::Computed, rows, 0, levels.len()).unwrap()
            }
            Rows::Distinct => {
                let mut distinct: Vec<&FrameLevel> = Vec::new();
                let index = levels.iter().map(|level| {
                    let same = |d: &&FrameLevel| d.timestep == level.timestep;
                    distinct.iter().position(same).unwrap_or_else(|| {
                        distinct.push(level);
                        distinct.len() - 1
                    }) as u32
                });
                let index: Vec<u32> = index.collect();
                let rows: Vec<f32> = distinct.iter().flat_map(|l| row(l)).collect();
                let shape = (distinct.len(), width);
                let rows = CandleTensor::from_vec(rows, shape, &Device::Cpu).unwrap();
                self.ops.wrap_rows(Item::TimeEmbedding, rows, index, levels.len()).unwrap()
            }
        }
    }
}

/// A smooth function of the timestep, as the real embedding is.
fn embedding(timestep: f64, width: usize) -> Vec<f32> {
    let angle = |i: usize| timestep / 1000.0 * (1.0 + i as f64 * 0.37);
    (0..width).map(|i| (1.5 + angle(i).sin() * (0.4 + 0.1 * i as f64)) as f32).collect()
}

/// What "the blocks" add: different at every evaluation, so that a wrong reuse shows.
fn residual(hidden: &CandleTensor, index: usize) -> CandleTensor {
    hidden.affine(0.01 * (index as f64 + 1.0), 0.013).unwrap()
}
