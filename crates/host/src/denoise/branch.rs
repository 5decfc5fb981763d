//! One guidance branch of one model evaluation, with the cache's decision in it.

use std::sync::PoisonError;
use std::time::Instant;

use candle_core::{DType as CandleDType, Tensor as CandleTensor};
use wan_border::numbers::u32_of;
use wan_model::{Embedded, Timesteps};
use wan_plugin_api::blocks::BlockDecision;
use wan_plugin_api::{
    Action, Attention, Choice, DecisionPoint, Evaluation, FrameLevel, Replaces,
    Result as PluginResult, Signal, Tensor, TensorForm,
};

use crate::denoise::host_tensor::{dtype_of, place_of};
use crate::denoise::ops::HostOps;
use crate::denoise::parts::{BranchCache, DenoiserParts, Expert, UnderWay, facts_of};
use crate::denoise::tally::{BlockRecord, EvaluationRecord, Tally};
use crate::denoise::witness::{Inside, Seen};
use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::ledger::Item;

/// One branch of one evaluation.
pub(crate) struct BranchEvaluation<'d> {
    pub(crate) parts: &'d DenoiserParts,
    pub(crate) expert: &'d Expert,
    pub(crate) under_way: &'d mut UnderWay,
    pub(crate) tally: &'d mut Tally,
    /// Number of the branch.
    pub(crate) branch: usize,
    /// Latents of the window, `[1, C, F, H, W]`.
    pub(crate) sample: &'d CandleTensor,
    /// Levels of the window's frames.
    pub(crate) levels: &'d [FrameLevel],
    /// What the first branch chose.
    pub(crate) leader: Option<&'d BranchChoice>,
}

/// What a branch's cache chose.
#[derive(Debug, Clone)]
pub(crate) struct BranchChoice {
    pub(crate) choice: Choice,
    /// Where it decides for blocks of frames: the frames of each, and what it chose for them.
    pub(crate) blocks: Vec<(u32, Choice)>,
}

/// A decision, carried out where it is a reuse.
pub(super) enum Verdict {
    Compute {
        keep: bool,
    },
    /// Some blocks of frames are computed.
    ComputeBlocks(Vec<BlockDecision>),
    /// Hidden states with the residual added: what the head is given.
    ReuseHidden(CandleTensor),
    /// The branch's output: nothing is left to compute.
    ReuseOutput(CandleTensor),
}

impl Verdict {
    pub(super) fn choice(&self) -> Choice {
        match self {
            Self::Compute { .. } | Self::ComputeBlocks(_) => Choice::Compute,
            Self::ReuseHidden(_) | Self::ReuseOutput(_) => Choice::Reuse,
        }
    }
}

/// Tensors that a cache may be shown at its decision point.
#[derive(Default)]
pub(super) struct Stage<'a> {
    pub(super) embedded: Option<&'a Embedded>,
    pub(super) hidden: Option<&'a CandleTensor>,
}

impl BranchEvaluation<'_> {
    /// The branch's velocity, and its choice where a cache made one.
    pub(crate) fn run(mut self) -> Result<(CandleTensor, Option<BranchChoice>)> {
        self.parts.ops.cancel().check()?;
        let started = Instant::now();
        let (velocity, choice) = self.evaluate()?;
        let Tally { records, decisions, frames, .. } = self.tally;
        let Some((choice, record)) = choice.zip(records.last_mut()) else {
            frames.see(self.levels, Choice::Compute, &[]);
            return Ok((velocity, None));
        };
        record.seconds = started.elapsed().as_secs_f64();
        decisions.see(record);
        let blocks: Vec<_> = record.blocks.iter().map(|b| (b.frames, b.choice)).collect();
        frames.see(self.levels, choice, &blocks);
        Ok((velocity, Some(BranchChoice { choice, blocks })))
    }

    fn evaluate(&mut self) -> Result<(CandleTensor, Option<Choice>)> {
        let plan = self.cache().map(|c| c.instance.plan().clone());
        let point = plan.as_ref().map(|p| p.decides);
        let early = match point {
            Some(DecisionPoint::BeforeEmbed) => Some(self.decide(&Stage::default())?),
            _ => None,
        };
        if let Some(Verdict::ReuseOutput(output)) = early {
            return self.without_head(output);
        }
        let model = &self.expert.model;
        let embedded = self.embed()?;
        let layers = model.block_count();
        let split = match point {
            Some(DecisionPoint::AfterBlock(block)) => (block as usize + 1).min(layers),
            // A witness is shown the first block apart.
            None if self.parts.witness.is_some() => 1.min(layers),
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
        let (mut after, keep, blocks) = match verdict {
            Some(Verdict::ReuseOutput(output)) => return self.without_head(output),
            Some(Verdict::ReuseHidden(after)) => (after, false, Vec::new()),
            Some(Verdict::Compute { keep }) => {
                (self.blocks(split..layers, &before, &embedded)?, keep, Vec::new())
            }
            Some(Verdict::ComputeBlocks(blocks)) => {
                (self.blocks(split..layers, &before, &embedded)?, false, blocks)
            }
            None => (self.blocks(split..layers, &before, &embedded)?, false, Vec::new()),
        };
        let replaces = plan.map(|p| p.replaces);
        if replaces == Some(Replaces::Residual) && !blocks.is_empty() {
            after = self.settle_blocks(&blocks, (after, &before), HostOps::TOKEN_AXIS)?;
        }
        let mut velocity = model.head(&after, &embedded)?.to_dtype(CandleDType::F32)?;
        if replaces == Some(Replaces::OutputDelta) && !blocks.is_empty() {
            velocity = self.settle_blocks(&blocks, (velocity, self.sample), LATENT_FRAME_AXIS)?;
        }
        let after_first_block = (split == 1).then_some(&before);
        let inside = Inside { embedded: &embedded, after_first_block, after: &after };
        self.show_witness(Some(inside), &velocity)?;
        match replaces.filter(|_| keep) {
            Some(Replaces::Residual) => self.store(&after, &before, HostOps::TOKEN_AXIS)?,
            Some(Replaces::OutputDelta) => {
                self.store(&velocity, self.sample, LATENT_FRAME_AXIS)?;
            }
            None => {}
        }
        Ok((velocity, choice))
    }

    /// The end of an evaluation whose output is reused.
    fn without_head(&self, output: CandleTensor) -> Result<(CandleTensor, Option<Choice>)> {
        self.show_witness(None, &output)?;
        Ok((output, Some(Choice::Reuse)))
    }

    fn show_witness(&self, inside: Option<Inside<'_>>, velocity: &CandleTensor) -> Result<()> {
        let Some(witness) = &self.parts.witness else { return Ok(()) };
        let stream = &self.under_way.stream;
        let branch = self.under_way.branches[self.branch].name;
        let mut witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        witness.see(&Seen {
            context: self.parts.cache_context(facts_of(&self.expert.model), stream, branch),
            evaluation: stream.next,
            levels: self.levels,
            sample: self.sample,
            inside,
            velocity,
        })
    }

    pub(super) fn cache(&mut self) -> Option<&mut BranchCache> {
        self.under_way.branches[self.branch].cache.as_mut()
    }

    pub(super) fn cache_id(&self) -> String {
        let chosen = self.parts.cache.as_ref();
        chosen.map_or_else(String::new, |c| c.strategy.id.clone())
    }

    pub(super) fn embed(&mut self) -> Result<Embedded> {
        let (parts, first) = (self.parts, self.under_way.stream.window.0);
        let input = parts.conditions.model_input(self.sample, first)?;
        let timesteps: Vec<f64> = self.levels.iter().map(|level| level.timestep).collect();
        let uniform = timesteps.iter().all(|t| *t == timesteps[0]);
        let timesteps = if uniform {
            Timesteps::per_video(&timesteps[..1])?
        } else {
            Timesteps::per_frame(&[timesteps])?
        };
        let class = parts.fps_class.map(|class| [class]);
        let class = class.as_ref().map(<[u32; 1]>::as_slice);
        let embedded = self.expert.model.embed(&input, &timesteps, class)?;
        self.tally.signals.see(&embedded);
        Ok(embedded)
    }

    pub(super) fn blocks(
        &self,
        range: std::ops::Range<usize>,
        hidden: &CandleTensor,
        embedded: &Embedded,
    ) -> Result<CandleTensor> {
        let attention = match self.under_way.attention {
            Attention::Bidirectional => wan_model::Attention::Bidirectional,
            Attention::BlockCausal(frames) => wan_model::Attention::BlockCausal(frames as usize),
        };
        let text = self.expert.text(self.under_way.branches[self.branch].name)?;
        // It is looked at between blocks: a large model takes seconds for each.
        let mut cancel = self.parts.ops.cancel();
        let mut model = self.expert.model.observed(&mut cancel);
        Ok(model.blocks(range, hidden, embedded, text, attention)?)
    }

    /// Asks the cache and writes down what it said.
    fn decide(&mut self, stage: &Stage<'_>) -> Result<Verdict> {
        if self.decides_blocks() {
            return self.decide_blocks(stage);
        }
        let (levels, sample) = (self.levels, self.sample);
        let leader = self.leader.map(|leader| leader.choice);
        let id = self.cache_id();
        let stream = self.under_way.stream.clone();
        let Some(cache) = self.cache() else { return Ok(Verdict::Compute { keep: false }) };
        let plan = cache.instance.plan().clone();
        let signals =
            signals(&cache.ops, &plan.reads, sample, stage).map_err(Error::strategy(&id))?;
        let evaluation = Evaluation {
            index: stream.next,
            remaining: stream.evaluations.saturating_sub(stream.next + 1),
            leader: leader.filter(|_| plan.shared_decision),
            levels,
            computes: form_of(&plan.replaces, sample, stage),
            signals: &signals,
        };
        let decision =
            cache.instance.decide(&evaluation, &cache.ops).map_err(cache.ops.error_of(&id))?;
        let followed = evaluation.leader;
        // Computing where the leader reused costs time only; the other way round there is
        // nothing to trust.
        if followed == Some(Choice::Compute) && decision.choice() == Choice::Reuse {
            let why = "shares its decisions between branches and then broke ranks";
            return Err(Error::strategy(&id)(wan_plugin_api::Error::failed(why)));
        }
        self.record(decision.choice(), decision.measured, Vec::new());
        match decision.action {
            Action::Compute { keep } => Ok(Verdict::Compute { keep }),
            Action::Reuse(tensor) => self.reuse(&tensor, plan.replaces, stage),
        }
    }

    /// Carries a reuse of all frames out.
    pub(super) fn reuse(
        &self,
        tensor: &Tensor,
        replaces: Replaces,
        stage: &Stage<'_>,
    ) -> Result<Verdict> {
        let ops = &self.parts.ops;
        let verdict = match (replaces, stage.hidden) {
            (Replaces::Residual, Some(hidden)) => {
                ops.add_to(hidden, tensor, HostOps::TOKEN_AXIS).map(Verdict::ReuseHidden)
            }
            _ => ops.add_to(self.sample, tensor, LATENT_FRAME_AXIS).map(Verdict::ReuseOutput),
        };
        verdict.map_err(Error::strategy(&self.cache_id()))
    }

    /// Writes down what a cache said.
    pub(super) fn record(&mut self, choice: Choice, measured: Vec<f64>, blocks: Vec<BlockRecord>) {
        let stream = &self.under_way.stream;
        self.tally.records.push(EvaluationRecord {
            round: stream.round,
            evaluation: stream.next,
            branch: self.under_way.branches[self.branch].name.into(),
            expert: stream.expert,
            choice,
            measured,
            blocks,
            seconds: 0.0,
        });
    }

    /// Hands `after - before` to the cache.
    fn store(
        &mut self,
        after: &CandleTensor,
        before: &CandleTensor,
        frame_axis: usize,
    ) -> Result<()> {
        let (frames, id) = (self.levels.len(), self.cache_id());
        let place = self.parts.cache_device;
        let Some(cache) = self.cache() else { return Ok(()) };
        cache
            .ops
            .wrap_difference((after, before), (frame_axis, frames), place)
            .and_then(|handle| cache.instance.store(&handle, &cache.ops))
            .map_err(cache.ops.error_of(&id))
    }
}

/// Handles to the signals that a plan reads.
pub(super) fn signals(
    ops: &HostOps,
    reads: &[Signal],
    sample: &CandleTensor,
    stage: &Stage<'_>,
) -> PluginResult<Vec<(Signal, Tensor)>> {
    let frames = sample.dims()[LATENT_FRAME_AXIS];
    let early = || wan_plugin_api::Error::failed("this signal does not exist before embedding");
    let candle = |e: candle_core::Error| wan_plugin_api::Error::failed(e.to_string());
    let rows = |item, rows: &wan_model::Rows| {
        let squeezed = rows.rows().squeeze(0).map_err(candle)?; // [K, ..]
        ops.wrap_rows(item, squeezed, rows.index(0).to_vec(), frames)
    };
    let tokens = |item, hidden: CandleTensor| ops.wrap(item, hidden, HostOps::TOKEN_AXIS, frames);
    let handle = |signal: Signal| match signal {
        Signal::Sample => ops.wrap(Item::Sample, sample.clone(), LATENT_FRAME_AXIS, frames),
        Signal::TimeEmbedding => rows(Item::TimeEmbedding, &stage.embedded.ok_or_else(early)?.e),
        Signal::TimeProjection => rows(Item::TimeProjection, &stage.embedded.ok_or_else(early)?.e0),
        Signal::Hidden => tokens(Item::Hidden, stage.hidden.ok_or_else(early)?.clone()),
        Signal::Probe => {
            let entered = &stage.embedded.ok_or_else(early)?.hidden;
            let residual = (stage.hidden.ok_or_else(early)? - entered).map_err(candle)?;
            tokens(Item::Probe, residual)
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
    let (elements, dtype) = (tensor.elem_count(), tensor.dtype());
    let bytes = (elements * dtype.size_in_bytes()) as u64;
    TensorForm::new(
        u32_of(frames),
        (elements / frames) as u64,
        dtype_of(dtype),
        place_of(sample),
        bytes,
    )
}
