//! Wan 2.1, Wan 2.2 and SkyReels-V2 on candle: transformers, VAEs, text and image encoder,
//! tokenizer.
//!
//! The transformer comes in three stages that the caller runs one by one:
//!
//! ```text
//! latents, timesteps ── embed ──► hidden, e, e0 ── blocks ──► hidden ── head ──► velocity
//! ```
//!
//! so whoever wants to leave the blocks out, add a stored residual, or look at `e` before
//! deciding, does that between the stages. The crate knows no cache, no sampler, no guidance
//! and no plugin, and nothing in a forward pass is mutable: one model serves any number of
//! runs. Streams (a video going through the VAE chunk by chunk) carry their memory with them.
//!
//! # One row per noise level
//!
//! In diffusion forcing every latent frame has its own timestep. The published code copies the
//! time embedding and its six-way projection to every token. Here both are [`Rows`]: the K
//! distinct levels and, for each frame, which one it has. The kernels that shift, scale and gate
//! read the row a token needs, so a synchronous run holds one row and an asynchronous one as
//! many as levels are under way, whatever the resolution.
//!
//! # Attention without its matrix
//!
//! Scores are taken over chunks of queries of bounded size. The block-causal mask of SkyReels-V2
//! is a loop over blocks of frames, each seeing a prefix of the keys; no mask is ever built.
//!
//! # Half precision
//!
//! [`Numerics`] says in which format the blocks' matrices are held and multiplied, and in which
//! the residual stream goes from block to block. `docs/memory.md` has what a forward holds.
//!
//! # What is candle's, and what is not
//!
//! Tensors, embeddings, RMS norms and the `VarBuilder` are candle's (`candle-core`, `candle-nn`,
//! `candle-transformers`' traced layers). Written here, each with the reason in its file:
//! - `product`: candle's matrix product, without a question for the number of cores in each;
//! - `linear`: weights turned once at load instead of in every call;
//! - `fused`: layer norm (candle's loses digits), modulation by row, activations on all threads;
//! - `rope`: three axes of unequal width, in f64;
//! - `vae::conv`: candle has no 3-D convolution;
//! - [`umt5`]: candle-transformers' `t5` has one relative position bias for all layers, UMT5 one
//!   per layer;
//! - [`clip`]: candle-transformers' vision transformer has quick GELU alone, and candle's layer
//!   norm;
//! - [`weights`]: safetensors without `unsafe` memory maps, with errors that name file and tensor,
//!   under diffusers' names or the original ones ([`original_names`]).
//!
//! # What is known of the models
//!
//! [`family`] says what kinds of models differ in beside their shapes: how given frames enter,
//! where two experts change. [`published`] has the models that were published, each one entry of a
//! data file.
//!
//! # Proof
//!
//! Every stage is compared with tensors recorded from diffusers and transformers in f32, to
//! 8e-6 of the largest number of each tensor; the runner lives in the workspace's `tests`.

mod attention;
mod bicubic;
mod block;
#[cfg(test)]
mod broadcasts;
mod chunks;
pub mod clip;
mod config;
mod embeddings;
mod error;
pub mod family;
mod fused;
pub mod inspect;
mod linear;
mod model;
mod numerics;
mod observer;
pub mod original_names;
mod product;
pub mod published;
mod rope;
mod rows;
#[cfg(test)]
mod testing;
mod threads;
mod timesteps;
pub mod tokenizer;
pub mod umt5;
pub mod vae;
mod views;
pub mod weights;

pub use attention::Attention;
pub use config::WanConfig;
pub use error::{Error, Result};
pub use model::{Embedded, Observed, TextContext, WanModel};
pub use numerics::{Numerics, ResidualStream};
pub use observer::{BlockPoint, Observer, Point};
pub use rope::{Grid, Rope};
pub use rows::Rows;
pub use timesteps::Timesteps;
