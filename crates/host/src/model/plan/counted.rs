//! Counts of a run that its schedule and its strategies tell: work, windows, what caches declare.

use std::collections::BTreeMap;
use std::sync::Arc;

use wan_model::Numerics;

use crate::cancel::Cancel;
use crate::denoise::experts::{Experts, Lease};
use crate::error::{Error, Result};
use crate::model::cache_schedule::one_token_spec;
use crate::model::facts::ModelFacts;
use crate::model::settings::Settings;
use crate::run::Run;

/// What the schedule and the strategies of a run tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) rounds: usize,
    pub(super) evaluations: u64,
    pub(super) hidden_bytes: u64,
    pub(super) signal_bytes_max: u64,
    pub(super) cache_bytes_max: u64,
    /// Of each expert that runs: guidance branches, and latent frames of its longest window.
    pub(super) experts: Vec<ExpertCount>,
    /// Windows of the schedule.
    pub(super) windows: usize,
    /// Evaluations of all branches, by expert and latent frames of the window.
    pub(super) passes: BTreeMap<(usize, usize), u64>,
}

/// What one expert is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExpertCount {
    pub(super) branches: u64,
    pub(super) window: usize,
    pub(super) signal_bytes: u64,
    pub(super) cache_bytes: u64,
}

impl Counted {
    /// Asks sampler and cache.
    pub(super) fn of(facts: &ModelFacts, settings: &Settings) -> Result<Self> {
        let nobody = Arc::new(Nobody(facts.configs.len()));
        let run = Run::new(one_token_spec(facts, settings, nobody)?)?;
        let experts = vec![ExpertCount::default(); facts.configs.len()];
        let mut counted = Self { rounds: run.size().rounds, experts, ..Self::default() };
        let parts = run.parts();
        let frame_tokens = facts.frame_tokens(settings.size);
        let stream_dtype = Numerics::from(settings.precision).stream_dtype();
        let mut window = None;
        run.each_stream(|stream| {
            let config = &facts.configs[stream.expert];
            let rows = u64::from(stream.timesteps_max);
            let tokens = frame_tokens * settings.size.frames;
            let hidden = (tokens * config.dim() * stream_dtype.size_in_bytes()) as u64;
            counted.hidden_bytes = counted.hidden_bytes.max(hidden);
            let signals = rows * 7 * config.dim() as u64 * 4; // e: D, e0: 6 D
            counted.signal_bytes_max = counted.signal_bytes_max.max(signals);
            let branches = parts.branches(stream.expert);
            let (count, mut cache_bytes) = (branches.len() as u64, 0);
            let evaluations = u64::from(stream.evaluations) * count;
            counted.evaluations += evaluations;
            *counted.passes.entry((stream.expert, stream.window.1)).or_default() += evaluations;
            for branch in branches {
                let context = parts.cache_context((config, stream_dtype), stream, branch);
                let cache = parts.begin_cache(&context)?;
                // It may declare whatever it likes.
                let declared = cache.map_or(0, |cache| cache.instance.plan().bytes_max);
                cache_bytes = u64::saturating_add(cache_bytes, declared);
            }
            counted.cache_bytes_max = counted.cache_bytes_max.max(cache_bytes);
            let expert = &mut counted.experts[stream.expert];
            expert.branches = expert.branches.max(count);
            expert.window = expert.window.max(stream.window.1);
            expert.signal_bytes = expert.signal_bytes.max(signals);
            expert.cache_bytes = expert.cache_bytes.max(cache_bytes);
            if window != Some(stream.window) {
                window = Some(stream.window);
                counted.windows += 1;
            }
            Ok(())
        })?;
        Ok(counted)
    }
}

/// Experts that are counted, and never lent: no block runs.
struct Nobody(usize);

impl Experts for Nobody {
    fn count(&self) -> usize {
        self.0
    }

    fn lend(&self, _: usize) -> Result<Lease> {
        Err(Error::invalid("a plan runs no transformer"))
    }

    fn wait(&self, number: usize, _: &Cancel) -> Result<Lease> {
        self.lend(number)
    }
}
