//! Convolution over time and space, as a product whose patches are never written out.

pub(crate) mod convolve;
pub(crate) mod geometry;
pub(crate) mod patch;
pub(crate) mod weight;
