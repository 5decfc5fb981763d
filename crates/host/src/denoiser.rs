//! One model evaluation: guidance branches, and the cache's decision in each.
//!
//! ```text
//! embed ─► (blocks before the decision) ─► decide ─┬─ compute ─► blocks ─► store ─┐
//!                                                  └─ reuse ───► + residual ──────┴─► head
//! ```

use std::cell::RefCell;

use candle_core::Tensor as CandleTensor;
use wan_model::{TextContext, WanModel};
use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Attention, CacheContext, CachePlan, DType, DecisionPoint, Denoise, FrameLevel, ModelIdentity,
    Place, Replaces, Result as PluginResult, Schedule, Tensor,
};

use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::evaluation::BranchEvaluation;
use crate::host_tensor::dtype_of;
use crate::ledger::Item;
use crate::ops::HostOps;
use crate::record::{CacheMemory, EvaluationRecord, SignalMemory};
use crate::registry::Chosen;
use crate::stream::Stream;
use crate::witness::Witness;

/// Axis of the latent frames in `[1, C, F, H, W]`.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;

/// A transformer with the prompts in its own terms. Wan 2.2 A14B has two of them.
pub struct Expert<'m> {
    /// The transformer.
    pub model: &'m WanModel,
    /// What it is, for the caches.
    pub identity: ModelIdentity,
    /// Prompt, in context form.
    pub cond: TextContext,
    /// Negative prompt; needed where `guidance_scale` is above 1.
    pub uncond: Option<TextContext>,
    /// `v = v_uncond + guidance_scale * (v_cond - v_uncond)`; 1 or less runs without guidance.
    pub guidance_scale: f64,
}

/// What the denoiser is made of.
pub struct DenoiserParts<'m> {
    /// One transformer, or two: for high noise, then for low.
    pub experts: Vec<Expert<'m>>,
    /// Timestep at and above which the first of two experts runs.
    pub boundary_timestep: Option<f64>,
    /// What the video is conditioned on besides text.
    pub conditioning: Conditioning,
    /// Frame-rate class, where the model has that embedding.
    pub fps_class: Option<u32>,
    /// Tokens of one latent frame.
    pub frame_tokens: u32,
    /// Elements of one latent frame of the output.
    pub frame_output_elements: u64,
    /// Steps of each frame.
    pub steps: u32,
    /// The cache, if any.
    pub cache: Option<Chosen<'m>>,
    /// Where what the cache keeps lies.
    pub cache_device: Place,
    /// Sees every evaluation, if any.
    pub witness: Option<&'m RefCell<dyn Witness>>,
    /// Operations for handles that go to the sampler.
    pub ops: HostOps,
}

/// Evaluates the model for a sampler; keeps one cache object per guidance branch of a stream.
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
    /// What the first cache said of itself.
    pub cache_plan: Option<CachePlan>,
}

/// A guidance branch, and the cache of its stream of evaluations.
pub(crate) struct Branch {
    pub(crate) name: &'static str,
    pub(crate) cache: Option<BranchCache>,
}

/// A cache object and the operations, with their ledger, that are its own.
pub(crate) struct BranchCache {
    pub(crate) instance: CacheInstance,
    pub(crate) ops: HostOps,
}

/// The branch that every run has, and the one that guidance adds.
const COND: &str = "cond";
const UNCOND: &str = "uncond";

impl<'m> Expert<'m> {
    /// The prompt of a branch.
    pub(crate) fn text(&self, branch: &str) -> Result<&TextContext> {
        let text = if branch == COND { Some(&self.cond) } else { self.uncond.as_ref() };
        text.ok_or_else(|| {
            Error::invalid("guidance above 1 needs a negative prompt (it may be empty)")
        })
    }

    fn branches(&self) -> &'static [&'static str] {
        if self.guidance_scale > 1.0 { &[COND, UNCOND] } else { &[COND] }
    }
}

impl<'m> Denoiser<'m> {
    /// A denoiser for one schedule.
    ///
    /// # Errors
    /// If there is no expert, or there are two and no boundary between them.
    pub fn new(parts: DenoiserParts<'m>, schedule: Schedule) -> Result<Self> {
        let fits = match parts.experts.len() {
            1 => parts.boundary_timestep.is_none(),
            2 => parts.boundary_timestep.is_some(),
            _ => false,
        };
        if !fits {
            return Err(Error::invalid(format!(
                "{} experts with boundary {:?}: a model has one, or two and a boundary",
                parts.experts.len(),
                parts.boundary_timestep
            )));
        }
        Ok(Self {
            parts,
            branches: Vec::new(),
            schedule,
            attention: Attention::Bidirectional,
            stream: Stream::default(),
            records: Vec::new(),
            signals: SignalMemory::default(),
            cache_memory: CacheMemory::default(),
            cache_plan: None,
        })
    }

    /// The expert that runs now.
    pub(crate) fn expert(&self) -> &Expert<'m> {
        &self.parts.experts[self.stream.expert]
    }

    /// Prepares for round `index`; another window or expert gets fresh cache objects.
    ///
    /// # Errors
    /// What a cache says against its context.
    pub fn begin_round(&mut self, index: usize) -> Result<()> {
        let round = &self.schedule.rounds[index];
        self.attention = round.attention;
        if index == 0 || !self.stream.holds(round, self.parts.boundary_timestep) {
            self.end_caches();
            self.stream = Stream::begin(&self.schedule, index, self.parts.boundary_timestep);
            self.branches = self.begin_branches()?;
        }
        self.stream.round = index;
        Ok(())
    }

    fn begin_branches(&mut self) -> Result<Vec<Branch>> {
        let names = self.expert().branches().iter();
        let branches = names.map(|name| Ok(Branch { name, cache: self.begin_cache(name)? }));
        let branches = branches.collect::<Result<Vec<_>>>()?;
        let caches = branches.iter().filter_map(|b| b.cache.as_ref());
        let declared: Vec<u64> = caches.clone().map(|c| c.instance.plan().bytes_max).collect();
        let first = caches.map(|c| c.instance.plan()).next();
        self.cache_plan = self.cache_plan.take().or_else(|| first.cloned());
        self.cache_memory.declare(&declared);
        Ok(branches)
    }

    /// What a cache of this branch is told.
    pub(crate) fn cache_context(&self, branch: &str) -> CacheContext {
        CacheContext {
            branch: branch.into(),
            expert: self.stream.expert as u32,
            evaluations: self.stream.evaluations,
            evaluations_before: self.stream.before,
            evaluations_after: self.stream.after,
            steps: self.parts.steps,
            experts: self.parts.experts.len() as u32,
            model: self.expert().identity.clone(),
            frames: self.stream.window.1 as u32,
            frame_tokens: self.parts.frame_tokens,
            timesteps_max: self.stream.timesteps_max,
            dtype: dtype_of(self.expert().model.numerics().stream_dtype()),
            signal_dtype: DType::F32,
            frame_output_elements: self.parts.frame_output_elements,
            keep: self.parts.cache_device,
        }
    }

    fn begin_cache(&self, branch: &str) -> Result<Option<BranchCache>> {
        let Some(chosen) = &self.parts.cache else { return Ok(None) };
        let instance = chosen.cache(&self.cache_context(branch))?;
        let CachePlan { decides, replaces, .. } = instance.plan();
        if (*decides, *replaces) == (DecisionPoint::BeforeEmbed, Replaces::Residual) {
            return Err(Error::invalid(format!(
                "{} decides before the embedding and reuses a residual, but there is no hidden \
                 state yet to add it to; such a cache replaces the output, or decides later",
                chosen.strategy.id
            )));
        }
        Ok(Some(BranchCache { instance, ops: self.parts.ops.sibling() }))
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
        let caches = self.branches.iter().filter_map(|b| b.cache.as_ref());
        self.cache_memory.see(caches.map(|c| c.ops.ledger()));
        match velocities.as_slice() {
            [cond] => Ok(cond.clone()),
            [cond, uncond, ..] => {
                let guided = (cond - uncond)?.affine(self.expert().guidance_scale, 0.0)?;
                Ok((uncond + guided)?)
            }
            [] => Err(Error::invalid("no guidance branch")),
        }
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
        self.parts.ops.wrap(Item::Velocity, velocity, LATENT_FRAME_AXIS, frames)
    }
}
