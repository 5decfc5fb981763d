//! What the kernels give, through the crate's door: one program, so that it links once.

mod attention;
mod convolution;
mod product;
mod rows;
mod support;
