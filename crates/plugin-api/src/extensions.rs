//! Extensions: abilities that were added after an epoch was frozen.
//!
//! An extension has an id with a version (`wan.cache.block-decisions/1`). A question and its answer
//! are a document and tensors each ([`Message`](crate::Message)). A strategy lists the ids that it
//! answers in its description, and the host sends no others; an id that begins with `wan.ops` is one
//! that the host answers ([`TensorOps::extension`](crate::TensorOps::extension)). So a plugin built
//! before an id existed loads unchanged. The meaning of an id is fixed; a draft, which ends in
//! `-draft`, may change.

use serde::{Deserialize, Serialize};

/// Saves the state of a sampler between two rounds, or of a cache between two evaluations, and
/// loads it into a fresh object.
///
/// Question: [`StateQuestion`](crate::state::StateQuestion); a load comes with the saved tensors.
/// Answer to a save: [`StateDocument`](crate::state::StateDocument) and its tensors; to a load: an
/// empty message. The module [`state`](crate::state) implements both for a strategy.
pub const STATE: &str = "wan.state/1";

/// A cache decides for each block of latent frames by itself. The host then asks this in place of
/// `decide` and `store`.
///
/// Question: [`BlockQuestion`](crate::blocks::BlockQuestion). The module [`blocks`](crate::blocks)
/// says what comes with it and implements it for a cache.
pub const BLOCK_DECISIONS: &str = "wan.cache.block-decisions/1";

/// The host decodes latent frames to pixels and encodes those again, as SkyReels-V2 does (commit
/// abed76f) with the frames that a window takes over from the one before: the first of them then
/// stands for a single pixel frame. To be asked between windows, in the first round of one: the VAE
/// is loaded for it.
///
/// Question: an empty document and one tensor, latents `[1, C, F, H, W]`, f32. Answer: an empty
/// document and one tensor of the same form. `Unsupported` where the host has no VAE, as in a test.
pub const REENCODE: &str = "wan.ops.reencode/1";

/// What the next evaluation of the round sees, and what becomes of its keys and values: for samplers
/// of causal models that keep them from one round to the next.
///
/// Question: [`AttentionQuestion`] without tensors, asked right before
/// [`velocity`](crate::Denoise::velocity), for which alone it holds. Answer: an empty message.
///
/// A host without a store of keys and values answers `Unsupported` to any question with a
/// [`StoreAction`], and to ranges that differ from the attention of the round, with what it lacks in
/// the message. A sampler asks once and falls back to rounds that have their context in the window,
/// or passes the error on.
pub const ATTENTION: &str = "wan.ops.attention/1";

/// Question of [`ATTENTION`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionQuestion {
    /// What each block of the window sees, in their order; empty: what the round's attention says.
    #[serde(default)]
    pub ranges: Vec<AttentionRange>,
    /// What becomes of keys and values, in this order.
    #[serde(default)]
    pub store: Vec<StoreAction>,
}

/// What a block of latent frames sees. Frames are numbered in the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionRange {
    /// Frames of the block.
    pub frames: u32,
    /// First frame that it sees; frames before the window are read from the store.
    pub sees_from: u32,
    /// The first frame behind those that it sees.
    pub sees_to: u32,
}

/// An action on the store of keys and values. Frames are numbered in the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreAction {
    /// Keeps those of these frames behind the others, after the evaluation.
    Append {
        /// First frame.
        from: u32,
        /// The first frame behind them.
        to: u32,
    },
    /// Replaces those that are kept of these frames, after the evaluation.
    Overwrite {
        /// First frame.
        from: u32,
        /// The first frame behind them.
        to: u32,
    },
    /// Keeps these frames whatever is dropped to make room (an attention sink).
    Pin {
        /// First frame.
        from: u32,
        /// The first frame behind them.
        to: u32,
    },
    /// Forgets these frames, before the evaluation.
    Drop {
        /// First frame.
        from: u32,
        /// The first frame behind them.
        to: u32,
    },
}
