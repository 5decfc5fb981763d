//! Caches that decide for each block of latent frames by itself ([`BLOCK_DECISIONS`]).
//!
//! All frames are computed where one block is; the others are given the cache's tensors. So the
//! numbers are those of a host that computes no more than what was asked for.

use candle_core::Tensor as CandleTensor;
use wan_border::numbers::u32_of;
use wan_plugin_api::blocks::{self, BlockDecision, BlockEvaluation, FrameBlock};
use wan_plugin_api::extensions::BLOCK_DECISIONS;
use wan_plugin_api::{Action, Choice, Error as PluginError, Tensor, TensorOps};

use crate::denoise::branch::{BranchEvaluation, Stage, Verdict, signals};
use crate::denoise::parts::BranchCache;
use crate::denoise::tally::BlockRecord;
use crate::error::{Error, Result};

impl BranchEvaluation<'_> {
    /// Whether the cache decides for blocks.
    pub(super) fn decides_blocks(&self) -> bool {
        let chosen = self.parts.cache.as_ref();
        chosen.is_some_and(|c| c.strategy.extensions.iter().any(|id| id == BLOCK_DECISIONS))
    }

    /// Asks the cache about each block and writes down what it said.
    pub(super) fn decide_blocks(&mut self, stage: &Stage<'_>) -> Result<Verdict> {
        let (id, levels, sample) = (self.cache_id(), self.levels, self.sample);
        let (stream, attention) = (self.under_way.stream.clone(), self.under_way.attention);
        let leader = self.leader.map(|leader| leader.blocks.clone());
        let Some(BranchCache { instance, ops }) = self.cache() else {
            return Ok(Verdict::Compute { keep: false });
        };
        let plan = instance.plan().clone();
        let leader = leader.filter(|_| plan.shared_decision);
        let signals = signals(ops, &plan.reads, sample, stage).map_err(Error::strategy(&id))?;
        let evaluation = BlockEvaluation {
            index: stream.next,
            remaining: stream.evaluations.saturating_sub(stream.next + 1),
            leader: leader.as_deref().map(Into::into),
            levels: levels.into(),
            attention,
            signals: signals.into(),
        };
        let ask = |id: &str, message| instance.extension(id, message, ops);
        let decisions = blocks::decide(&evaluation, ask).map_err(ops.error_of(&id))?;
        if let Some(leader) = &leader
            && breaks_ranks(leader, &decisions)
        {
            let why = "shares its decisions between branches and then broke ranks";
            return Err(Error::strategy(&id)(PluginError::failed(why)));
        }
        let computes = decisions.iter().any(|block| block.choice() == Choice::Compute);
        let record = |block: &BlockDecision| BlockRecord {
            frames: block.frames,
            choice: block.choice(),
            measured: block.measured.clone(),
        };
        let records = decisions.iter().map(record).collect();
        let choice = if computes { Choice::Compute } else { Choice::Reuse };
        self.record(choice, Vec::new(), records);
        if computes {
            return Ok(Verdict::ComputeBlocks(decisions));
        }
        let reused = reused(&decisions);
        let joined = self.parts.ops.cat_frames(&reused).map_err(Error::strategy(&id))?;
        self.reuse(&joined, plan.replaces, stage)
    }

    /// What comes out of an evaluation: of blocks that compute, `computed`; of the others,
    /// `base` with the cache's tensor added. Blocks that the cache wants to keep are stored.
    pub(super) fn settle_blocks(
        &mut self,
        decisions: &[BlockDecision],
        (computed, base): (CandleTensor, &CandleTensor),
        frame_axis: usize,
    ) -> Result<CandleTensor> {
        let (id, place) = (self.cache_id(), self.parts.cache_device);
        let per_frame = computed.dims()[frame_axis] / self.levels.len();
        let (mut parts, mut kept, mut first) = (Vec::new(), Vec::new(), 0);
        for block in decisions {
            let frames = block.frames as usize;
            let part = |of: &CandleTensor| {
                of.narrow(frame_axis, first * per_frame, frames * per_frame)?.contiguous()
            };
            let (own, before) = (part(&computed)?, part(base)?);
            parts.push(match &block.action {
                Action::Compute { keep } => {
                    if let (true, Some(cache)) = (*keep, self.cache()) {
                        let made =
                            cache.ops.wrap_difference((&own, &before), (frame_axis, frames), place);
                        let place = FrameBlock { first: u32_of(first), frames: block.frames };
                        kept.push((place, made.map_err(Error::strategy(&id))?));
                    }
                    own
                }
                Action::Reuse(tensor) => {
                    let sum = self.parts.ops.add_to(&before, tensor, frame_axis);
                    sum.map_err(Error::strategy(&id))?
                }
            });
            first += frames;
        }
        if let (false, Some(BranchCache { instance, ops })) = (kept.is_empty(), self.cache()) {
            let stored = blocks::store(kept, |id, message| instance.extension(id, message, ops));
            stored.map_err(ops.error_of(&id))?;
        }
        Ok(CandleTensor::cat(&parts, frame_axis)?)
    }
}

/// Whether a block reuses frames that the leading branch computed.
fn breaks_ranks(leader: &[(u32, Choice)], decisions: &[BlockDecision]) -> bool {
    let frames = |(frames, choice): (u32, Choice)| (0..frames).map(move |_| choice);
    let led = leader.iter().copied().flat_map(frames);
    let own = decisions.iter().map(|block| (block.frames, block.choice())).flat_map(frames);
    led.zip(own).any(|both| both == (Choice::Compute, Choice::Reuse))
}

/// The tensors of blocks that reuse.
fn reused(decisions: &[BlockDecision]) -> Vec<&Tensor> {
    decisions
        .iter()
        .filter_map(|block| match &block.action {
            Action::Reuse(tensor) => Some(tensor),
            Action::Compute { .. } => None,
        })
        .collect()
}
