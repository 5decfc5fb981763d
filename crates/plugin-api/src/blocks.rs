//! The extension [`BLOCK_DECISIONS`]: a cache decides for each block of latent frames by itself.
//!
//! The cache divides the window into blocks of consecutive frames and says for each whether it is
//! computed or reused. A block that reuses gets the cache's tensor, a block that computes what a full
//! evaluation gives. A host may compute frames that nobody asked for; the numbers are the same.
//!
//! ```
//! use wan_plugin_api::blocks::{self, BlockCache, BlockDecision, BlockEvaluation};
//! use wan_plugin_api::*;
//!
//! /// Computes the frames that are being updated, and reuses the last residual of the others.
//! struct Mine {
//!     residuals: Vec<Option<Tensor>>,
//! }
//!
//! impl BlockCache for Mine {
//!     fn decide_blocks(
//!         &mut self,
//!         evaluation: &BlockEvaluation<'_>,
//!         _: &dyn TensorOps,
//!     ) -> Result<Vec<BlockDecision>> {
//!         let one = |(level, kept): (&FrameLevel, &Option<Tensor>)| match kept {
//!             Some(kept) if !level.update => BlockDecision::reuse(1, kept.clone()),
//!             _ => BlockDecision::compute(1),
//!         };
//!         Ok(evaluation.levels.iter().zip(&self.residuals).map(one).collect())
//!     }
//!
//!     fn store_block(&mut self, first: usize, computed: &Tensor, _: &dyn TensorOps) -> Result<()> {
//!         self.residuals[first] = Some(computed.clone());
//!         Ok(())
//!     }
//! }
//!
//! // In `impl Cache for Mine`, which lists `BLOCK_DECISIONS` among its extensions:
//! fn extension(
//!     mine: &mut Mine,
//!     id: &str,
//!     message: Message,
//!     ops: &dyn TensorOps,
//! ) -> Result<Message> {
//!     blocks::answer("mine", mine, (id, message), ops)
//! }
//! ```
//!
//! Such a cache has `decide` and `store` too, for hosts that do not ask this.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::extensions::BLOCK_DECISIONS;
use crate::{
    Action, Attention, Choice, Error, FrameLevel, Message, Result, Signal, Tensor, TensorOps,
};

/// Question of [`BLOCK_DECISIONS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockQuestion {
    /// What becomes of each block. Comes with the signals, in the order of
    /// [`BlockEvaluationDocument::signals`]. The answer is [`BlockAnswer`]; its tensors are those of
    /// the blocks that reuse, in their order.
    Decide(BlockEvaluationDocument),
    /// What the evaluation computed: a tensor for each of these blocks, which the cache wanted to
    /// keep, in their order. The answer is an empty message.
    Store(Vec<FrameBlock>),
}

/// One evaluation, in a [`BlockQuestion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockEvaluationDocument {
    /// Number of the evaluation in this stream, from 0.
    pub index: u32,
    /// Evaluations after this one in this stream.
    pub remaining: u32,
    /// Blocks and choices of the leading branch, which this one must follow; none where it decides
    /// freely.
    #[serde(default)]
    pub leader: Option<Vec<(u32, Choice)>>,
    /// Levels of the window's frames.
    pub levels: Vec<FrameLevel>,
    /// The attention between them.
    pub attention: Attention,
    /// What the tensors are, in their order.
    pub signals: Vec<Signal>,
}

/// Consecutive frames of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameBlock {
    /// Place of the first frame in the window, from 0.
    pub first: u32,
    /// Number of frames.
    pub frames: u32,
}

/// Answer to [`BlockQuestion::Decide`]: the blocks of the window in their order, together all of its
/// frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockAnswer {
    /// The blocks.
    pub blocks: Vec<BlockAnswerOf>,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockAnswerOf {
    /// Frames of the block.
    pub frames: u32,
    /// Compute or reuse.
    pub choice: Choice,
    /// Whether what is computed is to be stored.
    #[serde(default)]
    pub keep: bool,
    /// The numbers that led to it, in the order of [`CachePlan::measures`](crate::CachePlan).
    #[serde(default)]
    pub measured: Vec<f64>,
}

/// One evaluation, as a [`BlockCache`] sees it.
pub struct BlockEvaluation<'a> {
    /// Number of the evaluation in this stream, from 0.
    pub index: u32,
    /// Evaluations after this one in this stream.
    pub remaining: u32,
    /// Blocks and choices of the leading branch.
    pub leader: Option<Cow<'a, [(u32, Choice)]>>,
    /// Levels of the window's frames.
    pub levels: Cow<'a, [FrameLevel]>,
    /// The attention between them.
    pub attention: Attention,
    /// The signals that the plan names.
    pub signals: Cow<'a, [(Signal, Tensor)]>,
}

/// What becomes of a block of frames.
#[derive(Debug)]
pub struct BlockDecision {
    /// Frames of the block.
    pub frames: u32,
    /// Compute, or reuse a tensor of these frames.
    pub action: Action,
    /// The numbers that led to it.
    pub measured: Vec<f64>,
}

impl BlockDecision {
    /// Computes a block and stores what comes out.
    pub fn compute(frames: u32) -> Self {
        Self { frames, action: Action::Compute { keep: true }, measured: Vec::new() }
    }

    /// Uses `tensor`, which has these frames, instead.
    pub fn reuse(frames: u32, tensor: Tensor) -> Self {
        Self { frames, action: Action::Reuse(tensor), measured: Vec::new() }
    }

    /// The choice without its tensor.
    pub fn choice(&self) -> Choice {
        match self.action {
            Action::Compute { .. } => Choice::Compute,
            Action::Reuse(_) => Choice::Reuse,
        }
    }
}

/// A cache that decides for each block of frames.
pub trait BlockCache {
    /// Divides the window into blocks and decides about each.
    ///
    /// # Errors
    /// As [`Cache::decide`](crate::Cache::decide).
    fn decide_blocks(
        &mut self,
        evaluation: &BlockEvaluation<'_>,
        ops: &dyn TensorOps,
    ) -> Result<Vec<BlockDecision>>;

    /// Receives what was computed of a block that it wanted to keep; `first` is the place of its
    /// first frame in the window.
    ///
    /// # Errors
    /// As [`Cache::store`](crate::Cache::store).
    fn store_block(&mut self, first: usize, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;
}

/// Answers [`BLOCK_DECISIONS`] for a cache. To be called from its method `extension`.
///
/// # Errors
/// `Unsupported` for any other id, `Invalid` for a document that cannot be read, and the errors of
/// [`BlockCache`].
pub fn answer(
    strategy: &str,
    cache: &mut impl BlockCache,
    (id, message): (&str, Message),
    ops: &dyn TensorOps,
) -> Result<Message> {
    if id != BLOCK_DECISIONS {
        return Err(Error::unsupported(format!("{strategy} has no extension {id}")));
    }
    let wrong = |what: String| Error::invalid(format!("{BLOCK_DECISIONS} of {strategy}: {what}"));
    let question = serde_json::from_str(&message.document).map_err(|e| wrong(e.to_string()))?;
    let fits = |named: usize| {
        let came = message.tensors.len();
        let fault = || wrong(format!("{named} tensors are named, {came} came"));
        if named == came { Ok(()) } else { Err(fault()) }
    };
    match question {
        BlockQuestion::Decide(document) => {
            fits(document.signals.len())?;
            let BlockEvaluationDocument { index, remaining, leader, levels, attention, signals } =
                document;
            let signals = signals.into_iter().zip(message.tensors).collect::<Vec<_>>();
            let evaluation = BlockEvaluation {
                index,
                remaining,
                leader: leader.map(Cow::Owned),
                levels: levels.into(),
                attention,
                signals: signals.into(),
            };
            written(cache.decide_blocks(&evaluation, ops)?)
        }
        BlockQuestion::Store(blocks) => {
            fits(blocks.len())?;
            for (block, computed) in blocks.iter().zip(&message.tensors) {
                cache.store_block(block.first as usize, computed, ops)?;
            }
            Ok(Message::default())
        }
    }
}

/// Decisions as an answer.
fn written(decisions: Vec<BlockDecision>) -> Result<Message> {
    let (mut blocks, mut tensors) = (Vec::new(), Vec::new());
    for decision in decisions {
        let choice = decision.choice();
        let BlockDecision { frames, action, measured } = decision;
        let keep = matches!(action, Action::Compute { keep: true });
        blocks.push(BlockAnswerOf { frames, choice, keep, measured });
        if let Action::Reuse(tensor) = action {
            tensors.push(tensor);
        }
    }
    Ok(Message { document: document(&BlockAnswer { blocks })?, tensors })
}

fn document(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed(format!("{BLOCK_DECISIONS}: {e}")))
}

/// Asks a cache for its decisions, by its method `extension`. They are checked: the blocks are all
/// frames of the window, and every tensor has the frames of its block.
///
/// # Errors
/// The error of the cache; `Failed` for an answer that does not fit.
pub fn decide(
    evaluation: &BlockEvaluation<'_>,
    extension: impl FnOnce(&str, Message) -> Result<Message>,
) -> Result<Vec<BlockDecision>> {
    let (signals, tensors) = evaluation.signals.iter().cloned().unzip();
    let question = BlockQuestion::Decide(BlockEvaluationDocument {
        index: evaluation.index,
        remaining: evaluation.remaining,
        leader: evaluation.leader.as_ref().map(|leader| leader.to_vec()),
        levels: evaluation.levels.to_vec(),
        attention: evaluation.attention,
        signals,
    });
    let message = Message { document: document(&question)?, tensors };
    let Message { document, tensors } = extension(BLOCK_DECISIONS, message)?;
    let wrong = |what: String| Error::failed(format!("{BLOCK_DECISIONS}: {what}"));
    let answer: BlockAnswer = serde_json::from_str(&document).map_err(|e| wrong(e.to_string()))?;
    let (frames, mut tensors) = (evaluation.levels.len(), tensors.into_iter());
    let mut decisions = Vec::new();
    for BlockAnswerOf { frames, choice, keep, measured } in answer.blocks {
        let action = match choice {
            Choice::Compute => Action::Compute { keep },
            Choice::Reuse => Action::Reuse(
                tensors
                    .next()
                    .ok_or_else(|| wrong("a block reuses, and no tensor came for it".into()))?,
            ),
        };
        if let Action::Reuse(tensor) = &action
            && tensor.form().frames != frames
        {
            let came = tensor.form().frames;
            return Err(wrong(format!("a tensor of {came} frames for a block of {frames}")));
        }
        decisions.push(BlockDecision { frames, action, measured });
    }
    let decided: u64 = decisions.iter().map(|block| u64::from(block.frames)).sum();
    if decided != frames as u64 || decisions.iter().any(|block| block.frames == 0) {
        return Err(wrong(format!(
            "blocks of {:?} frames, for a window of {frames}",
            decisions.iter().map(|block| block.frames).collect::<Vec<_>>()
        )));
    }
    match tensors.len() {
        0 => Ok(decisions),
        more => Err(wrong(format!("{more} tensors more than blocks that reuse"))),
    }
}

/// Hands what was computed of these blocks to a cache, by its method `extension`.
///
/// # Errors
/// The error of the cache.
pub fn store(
    computed: Vec<(FrameBlock, Tensor)>,
    extension: impl FnOnce(&str, Message) -> Result<Message>,
) -> Result<()> {
    let (blocks, tensors) = computed.into_iter().unzip();
    let message = Message { document: document(&BlockQuestion::Store(blocks))?, tensors };
    extension(BLOCK_DECISIONS, message).map(|_| ())
}
