//! Attention with an online softmax: no row of scores is ever held whole.

pub(crate) mod attend;
pub(crate) mod group;
pub(crate) mod key_value;
pub(crate) mod softmax;
