//! One evaluation of the model: guidance branches, their caches, tensors as strategies see them,
//! and the account of what is held. It knows what a video is conditioned on, and no round but the
//! one under way.

mod block_decisions;
mod branch;
pub(crate) mod denoiser;
pub(crate) mod expert_use;
pub(crate) mod experts;
pub(crate) mod host_tensor;
pub(crate) mod noise;
pub(crate) mod ops;
pub(crate) mod parts;
pub(crate) mod recheck;
pub(crate) mod reencode;
pub(crate) mod saved;
pub(crate) mod stream;
pub(crate) mod tally;
pub(crate) mod witness;
