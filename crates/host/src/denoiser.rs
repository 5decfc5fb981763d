//! One model evaluation: guidance branches, and the cache's decision in each.
//!
//! ```text
//! embed ─► (blocks before the decision) ─► decide ─┬─ compute ─► blocks ─► store ─┐
//!                                                  └─ reuse ───► + residual ──────┴─► head
//! ```

use candle_core::Tensor as CandleTensor;
use wan_model::{TextContext, WanModel};
use wan_plugin_api::epoch1::CacheInstance;
use wan_plugin_api::{
    Attention, CacheContext, DType, Denoise, FrameLevel, ModelIdentity, Result as PluginResult,
    Schedule, Tensor,
};

use crate::error::{Error, Result};
use crate::evaluation::BranchEvaluation;
use crate::ops::HostOps;
use crate::record::{CacheMemory, EvaluationRecord, SignalMemory};
use crate::registry::Chosen;

/// Axis of the latent frames in `[1, C, F, H, W]`.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;

/// A guidance branch: a prompt, and the cache of its stream of evaluations.
pub(crate) struct Branch {
    pub(crate) name: &'static str,
    pub(crate) text: TextContext,
    pub(crate) cache: Option<BranchCache>,
}

/// A cache object and the operations, with their ledger, that are its own.
pub(crate) struct BranchCache {
    pub(crate) instance: CacheInstance,
    pub(crate) ops: HostOps,
}

/// What the denoiser is made of.
pub struct DenoiserParts<'m> {
    /// The transformer.
    pub model: &'m WanModel,
    /// What it is, for the caches.
    pub identity: ModelIdentity,
    /// Prompt, in context form.
    pub cond: TextContext,
    /// Negative prompt; needed where `guidance_scale` is above 1.
    pub uncond: Option<TextContext>,
    /// `v = v_uncond + guidance_scale * (v_cond - v_uncond)`.
    pub guidance_scale: f64,
    /// Frame-rate class, where the model has that embedding.
    pub fps_class: Option<u32>,
    /// Tokens of one latent frame.
    pub frame_tokens: u32,
    /// Elements of one latent frame of the output.
    pub frame_output_elements: u64,
    /// The cache, if any.
    pub cache: Option<Chosen<'m>>,
    /// Operations for handles that go to the sampler.
    pub ops: HostOps,
}

/// Evaluates the model for a sampler; keeps one cache object per branch and window.
pub struct Denoiser<'m> {
    pub(crate) parts: DenoiserParts<'m>,
    pub(crate) branches: Vec<Branch>,
    schedule: Schedule,
    pub(crate) attention: Attention,
    pub(crate) stream: Stream,
    /// One entry per evaluation and branch.
    pub records: Vec<EvaluationRecord>,
    /// Largest `e` and `e0` that one evaluation held.
    pub signals: SignalMemory,
    /// What the caches declared and held.
    pub cache_memory: CacheMemory,
}

/// A run of rounds over one window: what one cache object sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stream {
    /// First latent frame and number of frames.
    window: (usize, usize),
    /// Evaluations of the stream.
    pub(crate) evaluations: u32,
    /// The next one, from 0.
    pub(crate) next: u32,
    /// Most distinct timesteps of one evaluation.
    timesteps_max: u32,
    /// The round that is under way.
    pub(crate) round: usize,
}

impl<'m> Denoiser<'m> {
    /// A denoiser for one schedule.
    ///
    /// # Errors
    /// If guidance needs a negative prompt and there is none.
    pub fn new(mut parts: DenoiserParts<'m>, schedule: Schedule) -> Result<Self> {
        let mut branches = vec![Branch { name: "cond", text: parts.cond.clone(), cache: None }];
        if parts.guidance_scale > 1.0 {
            let text = parts.uncond.take().ok_or_else(|| {
                Error::invalid("guidance above 1 needs a negative prompt (it may be empty)")
            })?;
            branches.push(Branch { name: "uncond", text, cache: None });
        }
        Ok(Self {
            parts,
            branches,
            schedule,
            attention: Attention::Bidirectional,
            stream: Stream::default(),
            records: Vec::new(),
            signals: SignalMemory::default(),
            cache_memory: CacheMemory::default(),
        })
    }

    /// Prepares for round `index`; a window that moved gets fresh cache objects.
    ///
    /// # Errors
    /// What a cache says against its context.
    pub fn begin_round(&mut self, index: usize) -> Result<()> {
        let round = &self.schedule.rounds[index];
        self.attention = round.attention;
        let window = (round.first_frame(), round.len());
        if index == 0 || window != self.stream.window {
            self.stream = self.stream_from(index, window);
            self.make_caches()?;
        }
        self.stream.round = index;
        Ok(())
    }

    fn stream_from(&self, index: usize, window: (usize, usize)) -> Stream {
        let rounds = self.schedule.rounds[index..]
            .iter()
            .take_while(|r| (r.first_frame(), r.len()) == window);
        let (mut evaluations, mut timesteps_max) = (0, 0);
        for round in rounds {
            evaluations += round.evaluations;
            let mut timesteps: Vec<u64> =
                round.levels.iter().map(|l| l.timestep.to_bits()).collect();
            timesteps.sort_unstable();
            timesteps.dedup();
            timesteps_max = timesteps_max.max(timesteps.len() as u32);
        }
        Stream { window, evaluations, next: 0, timesteps_max, round: index }
    }

    fn make_caches(&mut self) -> Result<()> {
        self.end_caches();
        let Some(chosen) = &self.parts.cache else { return Ok(()) };
        for branch in &mut self.branches {
            let context = CacheContext {
                branch: branch.name.into(),
                expert: 0,
                evaluations: self.stream.evaluations,
                evaluations_of_request: self.schedule.evaluations(),
                model: self.parts.identity.clone(),
                frames: self.stream.window.1 as u32,
                frame_tokens: self.parts.frame_tokens,
                timesteps_max: self.stream.timesteps_max,
                dtype: DType::F32,
                signal_dtype: DType::F32,
                frame_output_elements: self.parts.frame_output_elements,
            };
            let instance = chosen.cache(&context)?;
            self.cache_memory.declared_per_branch =
                self.cache_memory.declared_per_branch.max(instance.plan().bytes_max);
            branch.cache = Some(BranchCache { instance, ops: self.parts.ops.sibling() });
        }
        Ok(())
    }

    /// Drops the cache objects; what their handles still keep alive then has leaked.
    pub fn end_caches(&mut self) {
        for branch in &mut self.branches {
            let Some(BranchCache { instance, ops }) = branch.cache.take() else { continue };
            drop(instance);
            self.cache_memory.leaked += ops.ledger().live();
        }
    }

    /// Velocity of all branches, guidance applied.
    fn guided_velocity(
        &mut self,
        sample: &CandleTensor,
        levels: &[FrameLevel],
    ) -> Result<CandleTensor> {
        let mut leader = None;
        let mut velocities = Vec::with_capacity(self.branches.len());
        for number in 0..self.branches.len() {
            if self.parts.ops.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let branch =
                BranchEvaluation { denoiser: self, branch: number, sample, levels, leader };
            let (velocity, choice) = branch.run()?;
            leader = leader.or(choice);
            velocities.push(velocity);
        }
        self.stream.next += 1;
        self.settle_cache_memory();
        match velocities.as_slice() {
            [cond] => Ok(cond.clone()),
            [cond, uncond, ..] => {
                let guided = (cond - uncond)?.affine(self.parts.guidance_scale, 0.0)?;
                Ok((uncond + guided)?)
            }
            [] => Err(Error::invalid("no guidance branch")),
        }
    }

    fn settle_cache_memory(&mut self) {
        let caches = self.branches.iter().filter_map(|b| b.cache.as_ref());
        let held: Vec<u64> = caches.map(|c| c.ops.ledger().settle()).collect();
        let memory = &mut self.cache_memory;
        memory.held_max = memory.held_max.max(held.iter().sum());
        memory.held_per_branch_max =
            memory.held_per_branch_max.max(held.iter().copied().max().unwrap_or(0));
    }
}

impl Denoise for Denoiser<'_> {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> PluginResult<Tensor> {
        let latents = self.parts.ops.unwrap(sample)?;
        let frames = latents.dims()[LATENT_FRAME_AXIS];
        if levels.len() != frames {
            return Err(wan_plugin_api::Error::failed(format!(
                "{} levels for {frames} latent frames",
                levels.len()
            )));
        }
        let velocity = self.guided_velocity(&latents, levels).map_err(|error| match error {
            Error::Strategy { source, .. } => source,
            Error::Cancelled => wan_plugin_api::Error::cancelled(),
            other => wan_plugin_api::Error::failed(other.to_string()),
        })?;
        self.parts.ops.wrap(velocity, LATENT_FRAME_AXIS, frames)
    }
}
