//! The arithmetic of the models on the CPU, over plain slices: products over packed weights,
//! attention, convolution, and row operations in one pass each.
//!
//! # Paths
//!
//! [`Kernels`] says which instructions are used: AVX-512, AVX2 or what the target has anyway. A
//! value is found once ([`Kernels::detect`]), or asked for by name, and is passed to every function
//! within a [`Context`], which also has the [`Pool`] that buffers come from. Nothing is global.
//!
//! # What holds on every path
//!
//! - **Equal bits for any number of threads**, and however the caller cuts rows: every number is
//!   computed from its own inputs, in an order that depends on the length of the sum alone.
//! - **A weight that is widened on the fly gives the bits of the same weight packed beforehand.**
//! - The same kernels (by [`Kernels::name`]) give the same bits on every processor. Products in f32
//!   have the same bits on AVX2 and AVX-512: one fused multiply-add after the other, in the order
//!   of `k`. The portable path rounds the product before the sum on targets without the
//!   instruction. Products in bf16 are the same on AVX2 and AVX-512 without `avx512_bf16`; with it,
//!   pairs are added the last first, and numbers below the normal range count as zero. So these
//!   differ within the rounding of the sum.
//! - Element-wise operations use nothing fused: their bits are the same on all paths.
//! - A NaN in an input comes out as NaN, in its own rows and columns and in no other.
//!
//! # A linear layer
//!
//! ```
//! use wan_kernels::{
//!     Activation, Context, Epilogue, Kernels, Matrix, MatrixMut, PackedWeight, Pool, Precision,
//!     multiply,
//! };
//!
//! let (tokens, inputs, outputs) = (3, 4, 2);
//! let x = vec![0.5f32; tokens * inputs];
//! let weight = vec![0.25f32; outputs * inputs]; // [out, in], as in the files
//! let bias = vec![1f32; outputs];
//!
//! let kernels = Kernels::detect(); // once a process
//! let pool = Pool::new(); // once a run
//! let context = Context { kernels, pool: &pool };
//! // At load; while a file is read, `PackedWeight::packer` takes some rows after the other.
//! let packed =
//!     PackedWeight::new(kernels, Matrix::dense(&*weight, [outputs, inputs]), Precision::F32);
//!
//! let mut y = vec![0f32; tokens * outputs];
//! let epilogue = Epilogue { bias: Some(&bias), activation: Activation::GeluTanh, add: None };
//! multiply(
//!     context,
//!     Matrix::dense(&*x, [tokens, inputs]),
//!     &(&packed).into(),
//!     &epilogue,
//!     MatrixMut::dense(&mut *y, [tokens, outputs]),
//! );
//! assert!((y[0] - 1.3995).abs() < 1e-3); // gelu(0.5 + 1)
//! ```
//!
//! A weight in fp8, in a quantised format or with a LoRA added is a [`Panels`]: it stays as it is,
//! and a product over [`Weight::Widened`] asks it for 32 rows at a time. Residual and gate of a
//! block go into [`Epilogue::add`], whose [`RowTable`] is one component of the model's modulation
//! rows `[K, C, D]` (a [`Matrix`] with stride `C D`) and its index.
//!
//! # Attention, norms and convolution
//!
//! - [`attend`] takes queries, keys and values `[batch tokens, heads head_dim]` as they come from
//!   the projections. A [`Span`] is a run of queries and the keys that they see: one for full
//!   attention, one for each block of frames under a block-causal mask. Keys and values of a prompt
//!   are packed once, as a [`KeyValue`], for [`attend_to`]. Where queries have the softmax scale
//!   already, [`Attention::scale`] is 1.
//! - [`layer_norm`] with [`Affine::Modulated`] is norm and modulation in one pass, [`rms_norm`]
//!   with a [`Rotation`] is norm, rotary embedding and scale. What they write may be bf16, which is
//!   what attention and bf16 products read. [`RowTable`] reads the row of a token's frame.
//! - [`convolve`] takes frames `[channels, height, width]`, as the VAE holds them. The frames of a
//!   stream's past are passed in front of the new ones, `None` for zeros, so nothing is put
//!   together in memory. Channels first is a good layout here: a convolution reads neighbours along
//!   a row as they lie, and writes whole rows of a channel.
//!
//! # Indices
//!
//! Kernels read slices and arrays, whose bounds are checked in every profile. What is unsafe is the
//! instructions themselves (`simd`), one transpose of four vectors (`transpose`), memory that
//! begins at a cache line (`lines`), and the parts of a matrix that threads write at once
//! (`shared`), each checked against the matrix before it is made. The feature `checked` fills
//! buffers of the pool with NaN, so that a number which nobody wrote is seen in a result.

mod attention;
mod buffer;
mod conv;
mod epilogue;
pub mod footprint;
mod functions;
mod lines;
mod matrix;
mod path;
mod pool;
mod product;
mod rows;
mod shared;
mod simd;
mod transpose;
mod weight;
mod words;

pub use attention::attend::{Span, attend, attend_to};
pub use attention::key_value::{Attention, KeyValue};
pub use buffer::Buffer;
pub use conv::convolve::convolve;
pub use conv::geometry::Geometry;
pub use conv::patch::Frames;
pub use conv::weight::{PackedConv, packed_conv_words};
pub use epilogue::{Activation, AddTo, Epilogue, RowTable};
pub use matrix::{Count, Elements, ElementsMut, Grid, Matrix, MatrixMut};
pub use path::{GENERATION, Kernels, NoKernels, Path};
pub use pool::{Counts, Pool};
pub use product::{Context, multiply};
pub use rows::channel::channel_norm;
pub use rows::norm::{Affine, RmsNorm, Rotation, layer_norm, rms_norm};
pub use rows::pointwise::{activate, add_gated};
pub use weight::{Packed, PackedWeight, Packer, Panels, Weight, packed_words};
pub use words::Precision;
