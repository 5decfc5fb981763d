//! Wan 2.1, Wan 2.2 and SkyReels-V2 on candle: transformers, VAEs, text and image encoder,
//! tokenizer.
//!
//! The transformer comes in three stages that the caller runs one by one:
//!
//! ```text
//! latents, timesteps ── embed ──► hidden, e, e0 ── blocks ──► hidden ── head ──► velocity
//! ```
//!
//! so the caller can skip the blocks, add a stored residual, or read `e` before it decides. The
//! crate knows no cache, sampler, guidance or plugin. Nothing in a forward pass is mutable, so one
//! model serves any number of runs. The streams of the VAE, which code a video chunk by chunk, own
//! their memory.
//!
//! # One row per noise level
//!
//! In diffusion forcing every latent frame has its own timestep. The published code copies the time
//! embedding and its six-way projection to every token. Here both are [`Rows`]: one row for each of
//! the K distinct timesteps, and the row number of each frame. The kernels that shift, scale and
//! gate read the row of a token. So a synchronous run holds one row, and an asynchronous one as
//! many as there are distinct timesteps, at any resolution.
//!
//! # Attention without its matrix
//!
//! Scores are computed for some queries and some keys at a time, with a running softmax. The
//! block-causal mask of SkyReels-V2 is a loop over blocks of frames, each with a prefix of the keys; no
//! mask is built.
//!
//! # Half precision
//!
//! [`Numerics`] has the number format in which the blocks' matrices are held and multiplied, and
//! that of the residual stream between blocks. `docs/memory.md` lists what a forward pass holds.
//!
//! # What is candle's, and what is not
//!
//! Tensors, embeddings and a GPU's operations are candle's (`candle-core`, `candle-nn`,
//! `candle-transformers`' traced layers). On the CPU products, attention, norms and convolutions are
//! those of `wan-kernels`. Written here, each with the reason in its file:
//! - `product`: candle's product of two tensors, without asking for the number of cores in each call;
//! - `fused`: layer norm (candle's loses digits), modulation by row, exact GELU on all threads;
//! - `rope`: three axes of unequal width, in f64;
//! - `vae::conv`: candle has no 3-D convolution;
//! - [`umt5`]: candle-transformers' `t5` has one relative position bias for all layers, UMT5 one
//!   per layer;
//! - [`clip`]: candle-transformers' vision transformer has only quick GELU, and candle's layer
//!   norm;
//! - [`weights`]: in the place of candle's `VarBuilder`, weights in the format of their file, from
//!   safetensors, GGUF and torch files, under all published names ([`original_names`]).
//!
//! # Facts about the models
//!
//! [`family`] has the facts by which kinds of models differ beside their shapes: how given frames
//! enter, and where the second expert takes over. [`published`] has the published models, each one
//! entry of a data file.
//!
//! # Proof
//!
//! Every stage is compared with tensors recorded from diffusers and transformers in f32, to 8e-6 of
//! the largest magnitude of each tensor. The runner is in the workspace's `tests`.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

mod arithmetic;
mod attention;
mod bicubic;
mod block;
#[cfg(test)]
mod broadcasts;
mod chunks;
pub mod clip;
mod config;
pub mod convert;
mod embeddings;
mod error;
pub mod family;
mod finite;
pub mod footprint;
mod fused;
pub mod inspect;
mod linear;
pub mod lora;
mod matrix;
mod misfit;
mod model;
mod numerics;
mod observer;
pub mod original_names;
mod product;
pub mod published;
mod rms_norm;
mod rope;
mod rows;
pub mod speed;
mod table;
#[cfg(test)]
mod testing;
mod threads;
mod timesteps;
pub mod tokenizer;
pub mod umt5;
pub mod vae;
mod views;
pub mod weights;
pub mod work;

pub use arithmetic::Arithmetic;
pub use attention::Attention;
pub use config::WanConfig;
pub use error::{Error, Result};
pub use finite::is_finite;
pub use model::{Embedded, Observed, TextContext, WanModel};
pub use numerics::{Numerics, ResidualStream};
pub use observer::{BlockPoint, Observer, Point};
pub use rope::{Grid, Rope};
pub use rows::Rows;
pub use timesteps::Timesteps;
pub use wan_kernels::{GENERATION, Kernels, NoKernels, Path as KernelPath};
