//! What a denoiser is made of: who lends transformers, text, conditions, and the cache of each
//! guidance branch.

use std::sync::Arc;

use candle_core::{DType as CandleDType, Tensor as CandleTensor};
use wan_border::numbers::u32_of;
use wan_model::weights::Streamed;
use wan_model::{TextContext, WanConfig, WanModel};
use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Attention, CacheContext, CachePlan, DType, DecisionPoint, ModelIdentity, Place, Replaces,
};

use crate::denoise::experts::{Experts, Lease};
use crate::denoise::host_tensor::dtype_of;
use crate::denoise::ops::HostOps;
use crate::denoise::stream::Stream;
use crate::denoise::witness::RunWitness;
use crate::error::{Error, Result};
use crate::inputs::conditions::Conditions;
use crate::plugins::registry::Chosen;

/// What the denoiser is made of.
pub struct DenoiserParts {
    /// One transformer, or two: for high noise, then for low.
    pub experts: Arc<dyn Experts>,
    /// Guidance scale of each: `v = v_uncond + scale * (v_cond - v_uncond)`; 1 or less runs without
    /// guidance.
    pub guidance: Vec<f64>,
    /// Timestep at and above which the first of two experts runs.
    pub boundary_timestep: Option<f64>,
    /// What the model was trained for, as `df`: caches are told.
    pub variant: String,
    /// Hash of its files, which caches are told; empty where there are none.
    pub model_hash: String,
    /// What the video is conditioned on.
    pub conditions: Conditions,
    /// Frame-rate class, where the model has that embedding.
    pub fps_class: Option<u32>,
    /// Tokens of one latent frame.
    pub frame_tokens: u32,
    /// Elements of one latent frame of the output.
    pub frame_output_elements: u64,
    /// Steps of each frame.
    pub steps: u32,
    /// The cache, if any.
    pub cache: Option<Chosen>,
    /// Where what the cache keeps lies.
    pub cache_device: Place,
    /// Sees every evaluation, if any.
    pub witness: Option<RunWitness>,
    /// Operations for handles that go to the sampler.
    pub ops: HostOps,
}

/// A lent transformer with the prompts in its own terms.
pub(crate) struct Expert {
    pub(crate) model: Lease,
    pub(crate) number: usize,
    /// What was read of it before it was lent.
    streamed_before: Streamed,
    cond: TextContext,
    uncond: Option<TextContext>,
}

impl Expert {
    /// What was read for turns of its blocks since it was lent.
    pub(crate) fn streamed(&self) -> Streamed {
        self.model.streamed() - self.streamed_before
    }
}

/// A guidance branch, and the cache of its stream of evaluations.
pub(crate) struct Branch {
    pub(crate) name: &'static str,
    pub(crate) cache: Option<BranchCache>,
}

/// The stream that is under way.
pub(crate) struct UnderWay {
    pub(crate) stream: Stream,
    pub(crate) branches: Vec<Branch>,
    pub(crate) attention: Attention,
}

/// A cache object and the operations, with their ledger, that are its own.
pub(crate) struct BranchCache {
    pub(crate) instance: CacheInstance,
    pub(crate) ops: HostOps,
}

/// The branch that every run has, and the one that guidance adds.
const COND: &str = "cond";
const UNCOND: &str = "uncond";

impl Expert {
    /// The prompt of a branch.
    pub(crate) fn text(&self, branch: &str) -> Result<&TextContext> {
        let text = if branch == COND { Some(&self.cond) } else { self.uncond.as_ref() };
        text.ok_or_else(|| {
            Error::invalid("guidance above 1 needs a negative prompt (it may be empty)")
        })
    }
}

/// What becomes of a round whose transformer has no room yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenBusy {
    /// [`Error::Busy`].
    Say,
    /// Until there is room, or the run is stopped.
    Wait,
}

impl DenoiserParts {
    pub(crate) fn check(&self) -> Result<()> {
        let experts = self.experts.count();
        let fits = match experts {
            1 => self.boundary_timestep.is_none(),
            2 => self.boundary_timestep.is_some(),
            _ => false,
        };
        if fits && self.guidance.len() == experts {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{experts} experts with boundary {:?} and guidance {:?}: a model has one, or two and a \
             boundary, and a guidance scale for each",
            self.boundary_timestep, self.guidance
        )))
    }

    pub(crate) fn lend(&self, number: usize, when_busy: WhenBusy) -> Result<Expert> {
        let model = match when_busy {
            WhenBusy::Say => self.experts.lend(number),
            WhenBusy::Wait => self.experts.wait(number, self.ops.cancel()),
        }?;
        let streamed_before = model.streamed();
        let Conditions { prompt, negative, image, .. } = &self.conditions;
        let context = |text: &CandleTensor| model.context(text, image.as_ref());
        let guided = self.guidance[number] > 1.0;
        let uncond = negative.as_ref().filter(|_| guided).map(context).transpose()?;
        Ok(Expert { number, streamed_before, cond: context(prompt)?, uncond, model })
    }

    pub(crate) fn branches(&self, expert: usize) -> &'static [&'static str] {
        if self.guidance[expert] > 1.0 { &[COND, UNCOND] } else { &[COND] }
    }

    /// What a cache of this branch is told; `stream_dtype` is that of the hidden states.
    pub(crate) fn cache_context(
        &self,
        (config, stream_dtype): (&WanConfig, CandleDType),
        stream: &Stream,
        branch: &str,
    ) -> CacheContext {
        CacheContext {
            branch: branch.into(),
            expert: u32_of(stream.expert),
            evaluations: stream.evaluations,
            evaluations_before: stream.before,
            evaluations_after: stream.after,
            steps: self.steps,
            experts: u32_of(self.guidance.len()),
            model: ModelIdentity {
                variant: self.variant.clone(),
                dim: u32_of(config.dim()),
                layers: u32_of(config.num_layers),
                in_channels: u32_of(config.in_channels),
                hash: self.model_hash.clone(),
            },
            frames: u32_of(stream.window.1),
            frame_tokens: self.frame_tokens,
            timesteps_max: stream.timesteps_max,
            dtype: dtype_of(stream_dtype),
            signal_dtype: DType::F32,
            frame_output_elements: self.frame_output_elements,
            keep: self.cache_device,
        }
    }

    pub(crate) fn begin_cache(&self, context: &CacheContext) -> Result<Option<BranchCache>> {
        let Some(chosen) = &self.cache else { return Ok(None) };
        let instance = chosen.cache(context)?;
        let CachePlan { decides, replaces, .. } = instance.plan();
        if (*decides, *replaces) == (DecisionPoint::BeforeEmbed, Replaces::Residual) {
            let why = "decides before the embedding and reuses a residual, but there is no hidden \
                       state yet to add it to; such a cache replaces the output, or decides later";
            return Err(Error::strategy(&chosen.strategy.id)(wan_plugin_api::Error::failed(why)));
        }
        Ok(Some(BranchCache { instance, ops: self.ops.sibling() }))
    }

    /// A branch for each that guidance asks for, with a fresh cache object.
    pub(crate) fn begin_branches(&self, model: &WanModel, stream: &Stream) -> Result<Vec<Branch>> {
        let names = self.branches(stream.expert).iter();
        let branches = names.map(|name| {
            let context = self.cache_context(facts_of(model), stream, name);
            Ok(Branch { name, cache: self.begin_cache(&context)? })
        });
        branches.collect()
    }
}

/// What a cache is told of a transformer: its config, and the format of its hidden states.
pub(crate) fn facts_of(model: &WanModel) -> (&WanConfig, CandleDType) {
    (model.config(), model.numerics().stream_dtype())
}
