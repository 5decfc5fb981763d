//! One model evaluation: guidance branches, and the cache's decision in each.
//!
//! ```text
//! embed ─► (blocks before the decision) ─► decide ─┬─ compute ─► blocks ─► store ─┐
//!                                                  └─ reuse ───► + residual ──────┴─► head
//! ```

use std::sync::Arc;

use candle_core::Tensor as CandleTensor;
use wan_model::{TextContext, WanModel};
use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Attention, CacheContext, CachePlan, DType, DecisionPoint, Denoise, FrameLevel, ModelIdentity,
    Place, Replaces, Result as PluginResult, Round, Schedule, Tensor,
};

use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::evaluation::BranchEvaluation;
use crate::experts::{Experts, Lease};
use crate::host_tensor::dtype_of;
use crate::ledger::Item;
use crate::ops::HostOps;
use crate::record::Tally;
use crate::registry::Chosen;
use crate::run_state::{StrategyState, StreamState};
use crate::stream::Stream;
use crate::witness::RunWitness;

/// Axis of the latent frames in `[1, C, F, H, W]`.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;

/// What the encoders made of the prompts and of given pictures.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// The prompt, `[1, T, text_dim]`.
    pub prompt: CandleTensor,
    /// The negative prompt, `[1, T, text_dim]`; needed where an expert's guidance scale is above 1.
    pub negative: Option<CandleTensor>,
    /// Output of the image encoder, where the model takes it: `[pictures, tokens, image_dim]`.
    pub image: Option<CandleTensor>,
}

/// What the denoiser is made of.
pub struct DenoiserParts {
    /// One transformer, or two: for high noise, then for low.
    pub experts: Arc<dyn Experts>,
    /// Guidance scale of each: `v = v_uncond + scale * (v_cond - v_uncond)`; 1 or less runs without
    /// guidance.
    pub guidance: Vec<f64>,
    /// Timestep at and above which the first of two experts runs.
    pub boundary_timestep: Option<f64>,
    /// Variant and hash of the model, for the caches; the rest is each expert's own.
    pub model: ModelName,
    /// Text, and tokens of pictures.
    pub embeddings: Embeddings,
    /// What the video is conditioned on besides them.
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
    pub cache: Option<Chosen>,
    /// Where what the cache keeps lies.
    pub cache_device: Place,
    /// Sees every evaluation, if any.
    pub witness: Option<RunWitness>,
    /// Operations for handles that go to the sampler.
    pub ops: HostOps,
}

/// Which model runs, as caches are told.
#[derive(Debug, Clone, Default)]
pub struct ModelName {
    /// What it was trained for, as `df`.
    pub variant: String,
    /// Hash of its files; empty where there are none.
    pub hash: String,
}

/// Evaluates the model for a sampler; keeps one cache object per guidance branch of a stream.
pub struct Denoiser {
    pub(crate) parts: DenoiserParts,
    schedule: Arc<Schedule>,
    expert: Option<Expert>,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) tally: Tally,
    /// A saved stream that goes on with the next round.
    resumed: Option<StreamState>,
    /// Why the last evaluation failed, as itself and not as the sampler passed it on.
    failure: Option<Error>,
}

/// A lent transformer with the prompts in its own terms.
pub(crate) struct Expert {
    pub(crate) model: Lease,
    number: usize,
    cond: TextContext,
    uncond: Option<TextContext>,
}

/// The stream that is under way.
pub(crate) struct UnderWay {
    pub(crate) stream: Stream,
    pub(crate) branches: Vec<Branch>,
    pub(crate) attention: Attention,
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

impl Expert {
    /// The prompt of a branch.
    pub(crate) fn text(&self, branch: &str) -> Result<&TextContext> {
        let text = if branch == COND { Some(&self.cond) } else { self.uncond.as_ref() };
        text.ok_or_else(|| {
            Error::invalid("guidance above 1 needs a negative prompt (it may be empty)")
        })
    }
}

/// Whether a run waits for a transformer that has no room yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    UntilStopped,
}

impl DenoiserParts {
    fn check(&self) -> Result<()> {
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

    fn lend(&self, number: usize, patience: Patience) -> Result<Expert> {
        let model = match patience {
            Patience::None => self.experts.lend(number),
            Patience::UntilStopped => self.experts.wait(number, self.ops.cancel()),
        }?;
        let Embeddings { prompt, negative, image } = &self.embeddings;
        let context = |text: &CandleTensor| model.context(text, image.as_ref());
        let guided = self.guidance[number] > 1.0;
        let uncond = negative.as_ref().filter(|_| guided).map(context).transpose()?;
        Ok(Expert { number, cond: context(prompt)?, uncond, model })
    }

    fn branches(&self, expert: usize) -> &'static [&'static str] {
        if self.guidance[expert] > 1.0 { &[COND, UNCOND] } else { &[COND] }
    }

    /// What a cache of this branch is told.
    pub(crate) fn cache_context(
        &self,
        model: &WanModel,
        stream: &Stream,
        branch: &str,
    ) -> CacheContext {
        let config = model.config();
        CacheContext {
            branch: branch.into(),
            expert: stream.expert as u32,
            evaluations: stream.evaluations,
            evaluations_before: stream.before,
            evaluations_after: stream.after,
            steps: self.steps,
            experts: self.guidance.len() as u32,
            model: ModelIdentity {
                variant: self.model.variant.clone(),
                dim: config.dim() as u32,
                layers: config.num_layers as u32,
                in_channels: config.in_channels as u32,
                hash: self.model.hash.clone(),
            },
            frames: stream.window.1 as u32,
            frame_tokens: self.frame_tokens,
            timesteps_max: stream.timesteps_max,
            dtype: dtype_of(model.numerics().stream_dtype()),
            signal_dtype: DType::F32,
            frame_output_elements: self.frame_output_elements,
            keep: self.cache_device,
        }
    }

    fn begin_cache(&self, context: &CacheContext) -> Result<Option<BranchCache>> {
        let Some(chosen) = &self.cache else { return Ok(None) };
        let instance = chosen.cache(context)?;
        let CachePlan { decides, replaces, .. } = instance.plan();
        if (*decides, *replaces) == (DecisionPoint::BeforeEmbed, Replaces::Residual) {
            return Err(Error::invalid(format!(
                "{} decides before the embedding and reuses a residual, but there is no hidden \
                 state yet to add it to; such a cache replaces the output, or decides later",
                chosen.strategy.id
            )));
        }
        Ok(Some(BranchCache { instance, ops: self.ops.sibling() }))
    }

    /// A branch for each that guidance asks for, with a fresh cache object.
    fn begin_branches(&self, model: &WanModel, stream: &Stream) -> Result<Vec<Branch>> {
        let names = self.branches(stream.expert).iter();
        let branches = names.map(|name| {
            let context = self.cache_context(model, stream, name);
            Ok(Branch { name, cache: self.begin_cache(&context)? })
        });
        branches.collect()
    }
}

impl Denoiser {
    /// A denoiser for one schedule.
    ///
    /// # Errors
    /// If there is no expert, or there are two and no boundary between them.
    pub(crate) fn new(parts: DenoiserParts, schedule: Arc<Schedule>) -> Result<Self> {
        parts.check()?;
        Ok(Self {
            parts,
            schedule,
            expert: None,
            under_way: None,
            tally: Tally::default(),
            resumed: None,
            failure: None,
        })
    }

    /// Prepares for round `index`, and says which expert runs it; another window or expert gets fresh
    /// cache objects.
    ///
    /// # Errors
    /// [`Error::Busy`] where the expert has no room yet; then nothing has changed, but that this run
    /// holds no expert any more. Else what a cache says against its context.
    pub(crate) fn begin_round(&mut self, index: usize, patience: Patience) -> Result<usize> {
        let (schedule, boundary) = (self.schedule.clone(), self.parts.boundary_timestep);
        let round = &schedule.rounds[index];
        self.go_on(round, patience)?;
        let goes_on = |under_way: &UnderWay| under_way.stream.holds(round, boundary);
        if !self.under_way.as_ref().is_some_and(goes_on) {
            let stream = Stream::begin(&schedule, index, boundary);
            self.hold(stream.expert, patience)?;
            self.end_caches();
            self.begin_stream(stream)?;
        }
        let Some(under_way) = &mut self.under_way else { return Err(no_stream()) };
        under_way.attention = round.attention;
        under_way.stream.round = index;
        let expert = under_way.stream.expert;
        self.hold(expert, patience)?;
        Ok(expert)
    }

    /// Makes the caches of a saved stream anew, where `round` belongs to it.
    fn go_on(&mut self, round: &Round, patience: Patience) -> Result<()> {
        let Some(StreamState { stream, .. }) = &self.resumed else { return Ok(()) };
        if stream.holds(round, self.parts.boundary_timestep) {
            self.hold(stream.expert, patience)?;
        }
        let Some(StreamState { stream, attention, caches }) = self.resumed.take() else {
            return Ok(());
        };
        if !stream.holds(round, self.parts.boundary_timestep) {
            return Ok(());
        }
        self.begin_stream(stream)?;
        let Some(under_way) = &mut self.under_way else { return Err(no_stream()) };
        under_way.attention = attention;
        for (branch, saved) in under_way.branches.iter_mut().zip(&caches) {
            let (Some(cache), Some(saved)) = (&mut branch.cache, saved) else { continue };
            let Some(chosen) = &self.parts.cache else { continue };
            let BranchCache { instance, ops } = cache;
            saved.load(chosen, ops, |id, message| instance.extension(id, message))?;
        }
        Ok(())
    }

    /// The stream that is under way, or that is still to go on.
    ///
    /// # Errors
    /// If its cache cannot be saved.
    pub(crate) fn stream_state(&mut self) -> Result<Option<StreamState>> {
        let (Some(under_way), cache) = (&mut self.under_way, &self.parts.cache) else {
            return Ok(self.resumed.clone());
        };
        let states = under_way.branches.iter_mut().map(|branch| {
            let (Some(kept), Some(chosen)) = (&mut branch.cache, cache) else { return Ok(None) };
            StrategyState::of(chosen, |id, message| kept.instance.extension(id, message)).map(Some)
        });
        let caches = states.collect::<Result<_>>()?;
        let UnderWay { stream, attention, .. } = under_way;
        Ok(Some(StreamState { stream: stream.clone(), attention: *attention, caches }))
    }

    /// Goes on from a saved stream.
    pub(crate) fn resume(&mut self, stream: Option<StreamState>, tally: Tally) {
        (self.resumed, self.tally) = (stream, tally);
    }

    /// Holds expert `number`, and no other.
    fn hold(&mut self, number: usize, patience: Patience) -> Result<()> {
        if self.expert.as_ref().is_some_and(|held| held.number == number) {
            return Ok(());
        }
        // Whoever waits for another one must not keep it from coming.
        self.expert = None;
        self.expert = Some(self.parts.lend(number, patience)?);
        Ok(())
    }

    fn begin_stream(&mut self, stream: Stream) -> Result<()> {
        let Some(expert) = &self.expert else { return Err(no_stream()) };
        let branches = self.parts.begin_branches(&expert.model, &stream)?;
        self.tally
            .see_plans(branches.iter().filter_map(|b| Some(b.cache.as_ref()?.instance.plan())));
        self.under_way = Some(UnderWay { stream, branches, attention: Attention::Bidirectional });
        Ok(())
    }

    /// Gives the expert back and drops the cache objects.
    pub(crate) fn end(&mut self) {
        self.expert = None;
        self.end_caches();
    }

    /// Drops the cache objects; what their handles still keep alive then has leaked.
    fn end_caches(&mut self) {
        let Some(UnderWay { branches, .. }) = self.under_way.take() else { return };
        for BranchCache { instance, ops } in branches.into_iter().filter_map(|b| b.cache) {
            drop(instance);
            self.tally.cache_memory.leaked += ops.ledger().live();
        }
    }

    /// Why the last evaluation failed, once.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Velocity of all branches, guidance applied.
    fn guided_velocity(
        &mut self,
        sample: &CandleTensor,
        levels: &[FrameLevel],
    ) -> Result<CandleTensor> {
        let Self { parts, expert, under_way, tally, .. } = self;
        let (Some(expert), Some(under_way)) = (expert, under_way) else { return Err(no_stream()) };
        let levels = &parts.conditioning.levels(levels, under_way.stream.window.0);
        let mut leader = None;
        let mut velocities = Vec::with_capacity(under_way.branches.len());
        for number in 0..under_way.branches.len() {
            let (parts, expert) = (&*parts, &*expert);
            let branch = BranchEvaluation {
                parts,
                expert,
                under_way,
                tally,
                branch: number,
                sample,
                levels,
                leader,
            };
            let (velocity, choice) = branch.run()?;
            leader = leader.or(choice);
            velocities.push(velocity);
        }
        under_way.stream.next += 1;
        let caches = under_way.branches.iter().filter_map(|b| b.cache.as_ref());
        tally.cache_memory.see(caches.map(|c| c.ops.ledger()));
        match velocities.as_slice() {
            [cond] => Ok(cond.clone()),
            [cond, uncond, ..] => {
                let guided = (cond - uncond)?.affine(parts.guidance[expert.number], 0.0)?;
                Ok((uncond + guided)?)
            }
            [] => Err(Error::invalid("no guidance branch")),
        }
    }
}

fn no_stream() -> Error {
    Error::invalid("no round is under way")
}

impl Denoise for Denoiser {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> PluginResult<Tensor> {
        let latents = self.parts.ops.unwrap(sample)?;
        let frames = latents.dims()[LATENT_FRAME_AXIS];
        if levels.len() != frames {
            return Err(wan_plugin_api::Error::failed(format!(
                "{} levels for {frames} latent frames",
                levels.len()
            )));
        }
        let velocity = self.guided_velocity(&latents, levels).map_err(|error| {
            let passed_on = match &error {
                Error::Cancelled => wan_plugin_api::Error::cancelled(),
                other => wan_plugin_api::Error::failed(other.to_string()),
            };
            self.failure = Some(error);
            passed_on
        })?;
        self.parts.ops.wrap(Item::Velocity, velocity, LATENT_FRAME_AXIS, frames)
    }
}
