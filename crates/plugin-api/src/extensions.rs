//! Extensions: abilities that came after an epoch was frozen.
//!
//! An extension is an id with a version (`wan.cache.frame-decisions/1`), a document and tensors
//! in, a document and tensors out ([`Message`](crate::Message)). A strategy lists the ids that it
//! answers to in its description; the host asks only those. So a plugin that does not know an id
//! is never asked, and one built before the id existed loads unchanged. A draft ends in `-draft`
//! and may still change; without it, its meaning is fixed.

use serde::{Deserialize, Serialize};

use crate::FrameLevel;

/// A sampler between two rounds, or a cache between two evaluations, is saved, and a fresh object
/// goes on from there.
///
/// Question: [`StateQuestion`](crate::state::StateQuestion), with the saved tensors where it is to
/// load. Answer: to a save [`StateDocument`](crate::state::StateDocument) and its tensors; to a load
/// nothing. The module [`state`](crate::state) has what an author needs.
pub const STATE: &str = "wan.state/1";

/// Draft: a cache decides for each latent frame by itself.
///
/// Question: [`FrameDecisionsQuestion`] and the signals of the plan. Answer: [`FrameDecisions`].
/// No host acts on it yet; a host that recomputes part of a window will need keys and values of
/// the rest (see ARCHITECTURE.md).
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
    /// One per frame of the question: true to compute it.
    pub compute: Vec<bool>,
}
