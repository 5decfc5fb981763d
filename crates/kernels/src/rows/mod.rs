//! Operations on rows of tokens, one pass each.

pub(crate) mod channel;
pub(crate) mod each;
pub(crate) mod norm;
pub(crate) mod pointwise;
