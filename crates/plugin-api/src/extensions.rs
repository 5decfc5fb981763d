//! Extensions: abilities that were added after an epoch was frozen.
//!
//! An extension has an id with a version (`wan.cache.frame-decisions/1`). A question and its answer
//! are a document and tensors each ([`Message`](crate::Message)). A strategy lists the ids that it
//! answers in its description, and the host sends no others. So a plugin built before an id existed
//! loads unchanged. A draft ends in `-draft` and may change; the meaning of any other id is fixed.

use serde::{Deserialize, Serialize};

use crate::FrameLevel;

/// Saves the state of a sampler between two rounds, or of a cache between two evaluations, and
/// loads it into a fresh object.
///
/// Question: [`StateQuestion`](crate::state::StateQuestion); a load comes with the saved tensors.
/// Answer to a save: [`StateDocument`](crate::state::StateDocument) and its tensors; to a load: an
/// empty message. The module [`state`](crate::state) implements both for a strategy.
pub const STATE: &str = "wan.state/1";

/// Draft: a cache decides for each latent frame separately.
///
/// Question: [`FrameDecisionsQuestion`] and the signals of the plan. Answer: [`FrameDecisions`]. No
/// host uses it yet: a host that recomputes part of a window needs keys and values of the rest (see
/// ARCHITECTURE.md).
pub const FRAME_DECISIONS: &str = "wan.cache.frame-decisions/1-draft";

/// Question of [`FRAME_DECISIONS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameDecisionsQuestion {
    /// Number of the evaluation in its stream.
    pub index: u32,
    /// The window's frames.
    pub levels: Vec<FrameLevel>,
}

/// Answer of [`FRAME_DECISIONS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameDecisions {
    /// One per frame of the question; true: compute the frame.
    pub compute: Vec<bool>,
}
