//! One model evaluation: guidance branches, and the cache's decision in each.
//!
//! ```text
//! embed ─► (blocks before the decision) ─► decide ─┬─ compute ─► blocks ─► store ─┐
//!                                                  └─ reuse ───► + residual ──────┴─► head
//! ```

use candle_core::{DType as CandleDType, Tensor as CandleTensor};
use wan_model::{Embedded, TextContext, Timesteps, WanModel};
use wan_plugin_api::epoch1::CacheInstance;
use wan_plugin_api::{
    Action, Attention, CacheContext, Choice, DType, DecisionPoint, Denoise, Evaluation, FrameLevel,
    ModelIdentity, Replaces, Result as PluginResult, Schedule, Signal, Tensor, TensorForm,
};

use crate::error::{Error, Result};
use crate::ops::HostOps;
use crate::record::{CacheMemory, EvaluationRecord, SignalMemory};
use crate::registry::Chosen;

/// Axis of the latent frames in `[1, C, F, H, W]`.
pub(crate) const LATENT_FRAME_AXIS: usize = 2;

/// Axis of the tokens, frame after frame, in `[1, L, D]`.
const TOKEN_AXIS: usize = 1;

/// A guidance branch: a prompt, and the cache of its stream of evaluations.
struct Branch {
    name: &'static str,
    text: TextContext,
    cache: Option<BranchCache>,
}

struct BranchCache {
    instance: CacheInstance,
    ops: HostOps,
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
    parts: DenoiserParts<'m>,
    branches: Vec<Branch>,
    schedule: Schedule,
    attention: Attention,
    stream: Stream,
    /// One entry per evaluation and branch.
    pub records: Vec<EvaluationRecord>,
    /// Largest `e` and `e0` that one evaluation held.
    pub signals: SignalMemory,
    /// What the caches declared and held.
    pub cache_memory: CacheMemory,
}

/// A run of rounds over one window: what one cache object sees.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stream {
    /// First latent frame and number of frames.
    window: (usize, usize),
    /// Evaluations of the stream.
    evaluations: u32,
    /// The next one, from 0.
    next: u32,
    timesteps_max: u32,
    round: usize,
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
            let mut evaluation =
                BranchEvaluation { denoiser: self, branch: number, sample, levels, leader };
            let (velocity, choice) = evaluation.run()?;
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

/// One branch of one evaluation.
struct BranchEvaluation<'d, 'm> {
    denoiser: &'d mut Denoiser<'m>,
    branch: usize,
    sample: &'d CandleTensor,
    levels: &'d [FrameLevel],
    leader: Option<Choice>,
}

/// A decision, its tensor taken out of the handle.
enum Verdict {
    Compute { keep: bool },
    Reuse(CandleTensor),
}

impl Verdict {
    fn choice(&self) -> Choice {
        match self {
            Self::Compute { .. } => Choice::Compute,
            Self::Reuse(_) => Choice::Reuse,
        }
    }
}

/// Tensors that a cache may be shown at its decision point.
#[derive(Default)]
struct Stage<'a> {
    embedded: Option<&'a Embedded>,
    hidden: Option<&'a CandleTensor>,
}

impl BranchEvaluation<'_, '_> {
    /// The branch's velocity, and its choice where a cache made one.
    fn run(&mut self) -> Result<(CandleTensor, Option<Choice>)> {
        let plan = self.cache().map(|c| c.instance.plan().clone());
        let point = plan.as_ref().map(|p| p.decides);
        let early = match point {
            Some(DecisionPoint::BeforeEmbed) => Some(self.decide(&Stage::default())?),
            _ => None,
        };
        if let Some(Verdict::Reuse(delta)) = early {
            return Ok(((self.sample + delta)?, Some(Choice::Reuse)));
        }
        let model = self.denoiser.parts.model;
        let embedded = self.embed()?;
        let layers = model.config().num_layers;
        let split = match point {
            Some(DecisionPoint::AfterBlock(block)) => (block as usize + 1).min(layers),
            _ => 0,
        };
        let before = self.blocks(0..split, &embedded.hidden, &embedded)?;
        let verdict = match (early, point) {
            (None, Some(_)) => {
                let stage = Stage { embedded: Some(&embedded), hidden: Some(&before) };
                Some(self.decide(&stage)?)
            }
            (early, _) => early,
        };
        let choice = verdict.as_ref().map(Verdict::choice);
        let (after, keep) = match verdict {
            Some(Verdict::Reuse(residual)) => ((&before + residual)?, false),
            Some(Verdict::Compute { keep }) => {
                (self.blocks(split..layers, &before, &embedded)?, keep)
            }
            None => (self.blocks(split..layers, &before, &embedded)?, false),
        };
        let velocity = model.head(&after, &embedded)?.to_dtype(CandleDType::F32)?;
        match plan.map(|p| p.replaces).filter(|_| keep) {
            Some(Replaces::Residual) => self.store((&after - &before)?, TOKEN_AXIS)?,
            Some(Replaces::OutputDelta) => {
                self.store((&velocity - self.sample)?, LATENT_FRAME_AXIS)?;
            }
            None => {}
        }
        Ok((velocity, choice))
    }

    fn cache(&mut self) -> Option<&mut BranchCache> {
        self.denoiser.branches[self.branch].cache.as_mut()
    }

    fn cache_id(&self) -> String {
        let chosen = self.denoiser.parts.cache.as_ref();
        chosen.map_or_else(String::new, |c| c.strategy.id.clone())
    }

    fn embed(&mut self) -> Result<Embedded> {
        let timesteps: Vec<f64> = self.levels.iter().map(|l| l.timestep).collect();
        let uniform = timesteps.iter().all(|t| *t == timesteps[0]);
        let timesteps = match uniform {
            true => Timesteps::per_video(&timesteps[..1])?,
            false => Timesteps::per_frame(&[timesteps])?,
        };
        let parts = &self.denoiser.parts;
        let class = parts.fps_class.map(|class| [class]);
        let embedded =
            parts.model.embed(self.sample, &timesteps, class.as_ref().map(<[u32; 1]>::as_slice))?;
        self.denoiser.signals.see(&embedded);
        Ok(embedded)
    }

    fn blocks(
        &self,
        range: std::ops::Range<usize>,
        hidden: &CandleTensor,
        embedded: &Embedded,
    ) -> Result<CandleTensor> {
        if range.is_empty() {
            return Ok(hidden.clone());
        }
        let attention = match self.denoiser.attention {
            Attention::Bidirectional => wan_model::Attention::Bidirectional,
            Attention::BlockCausal(frames) => wan_model::Attention::BlockCausal(frames as usize),
        };
        let text = &self.denoiser.branches[self.branch].text;
        let model = self.denoiser.parts.model;
        Ok(model.blocks(range, hidden, embedded, text, attention)?)
    }

    /// Asks the cache and writes down what it said.
    fn decide(&mut self, stage: &Stage<'_>) -> Result<Verdict> {
        let (levels, sample, leader) = (self.levels, self.sample, self.leader);
        let id = self.cache_id();
        let stream = self.denoiser.stream.clone();
        let Some(cache) = self.cache() else { return Ok(Verdict::Compute { keep: false }) };
        let plan = cache.instance.plan().clone();
        let signals = signals(cache, &plan.reads, sample, stage).map_err(Error::strategy(&id))?;
        let evaluation = Evaluation {
            index: stream.next,
            remaining: stream.evaluations.saturating_sub(stream.next + 1),
            leader: leader.filter(|_| plan.shared_decision),
            levels,
            computes: form_of(&plan.replaces, sample, stage),
            signals: &signals,
        };
        let decision =
            cache.instance.decide(&evaluation, &cache.ops).map_err(Error::strategy(&id))?;
        let followed = evaluation.leader;
        // Computing where the leader reused costs time only; the other way round there is
        // nothing to trust.
        if followed == Some(Choice::Compute) && decision.choice() == Choice::Reuse {
            return Err(Error::invalid(format!(
                "{id} shares its decisions between branches and then broke ranks"
            )));
        }
        let record = EvaluationRecord {
            round: stream.round,
            evaluation: stream.next,
            branch: self.denoiser.branches[self.branch].name,
            choice: decision.choice(),
            measured: decision.measured,
        };
        self.denoiser.records.push(record);
        match decision.action {
            Action::Compute { keep } => Ok(Verdict::Compute { keep }),
            Action::Reuse(tensor) => {
                let tensor = self.denoiser.parts.ops.unwrap(&tensor);
                tensor.map(Verdict::Reuse).map_err(Error::strategy(&id))
            }
        }
    }

    fn store(&mut self, computed: CandleTensor, frame_axis: usize) -> Result<()> {
        let (frames, id) = (self.levels.len(), self.cache_id());
        let Some(cache) = self.cache() else { return Ok(()) };
        cache
            .ops
            .wrap(computed, frame_axis, frames)
            .and_then(|handle| cache.instance.store(&handle, &cache.ops))
            .map_err(Error::strategy(&id))
    }
}

/// Handles to the signals that a plan reads.
fn signals(
    cache: &BranchCache,
    reads: &[Signal],
    sample: &CandleTensor,
    stage: &Stage<'_>,
) -> PluginResult<Vec<(Signal, Tensor)>> {
    let frames = sample.dims()[LATENT_FRAME_AXIS];
    let early = || wan_plugin_api::Error::failed("this signal does not exist before embedding");
    let candle = |e: candle_core::Error| wan_plugin_api::Error::failed(e.to_string());
    let rows = |rows: &wan_model::Rows| {
        let squeezed = rows.rows().squeeze(0).map_err(candle)?; // [K, ..]
        cache.ops.wrap_rows(squeezed, rows.index(0).to_vec(), frames)
    };
    let handle = |signal: Signal| match signal {
        Signal::Sample => cache.ops.wrap(sample.clone(), LATENT_FRAME_AXIS, frames),
        Signal::TimeEmbedding => rows(&stage.embedded.ok_or_else(early)?.e),
        Signal::TimeProjection => rows(&stage.embedded.ok_or_else(early)?.e0),
        Signal::Hidden => {
            cache.ops.wrap(stage.hidden.ok_or_else(early)?.clone(), TOKEN_AXIS, frames)
        }
        Signal::Probe => {
            let entered = &stage.embedded.ok_or_else(early)?.hidden;
            let residual = (stage.hidden.ok_or_else(early)? - entered).map_err(candle)?;
            cache.ops.wrap(residual, TOKEN_AXIS, frames)
        }
    };
    reads.iter().map(|signal| Ok((*signal, handle(*signal)?))).collect()
}

/// Form of what `store` would be given.
fn form_of(replaces: &Replaces, sample: &CandleTensor, stage: &Stage<'_>) -> TensorForm {
    let tensor = match (replaces, stage.hidden) {
        (Replaces::Residual, Some(hidden)) => hidden,
        _ => sample,
    };
    let frames = sample.dims()[LATENT_FRAME_AXIS];
    let place = match sample.device().is_cpu() {
        true => wan_plugin_api::Place::Host,
        false => wan_plugin_api::Place::Device,
    };
    let elements = tensor.elem_count();
    let bytes = (elements * 4) as u64;
    TensorForm::new(frames as u32, (elements / frames) as u64, DType::F32, place, bytes)
}
