//! The causal 3-D VAEs of Wan 2.1 and 2.2. Latents are eight or sixteen times smaller in space and
//! four times in time.
//!
//! Every convolution over time is causal, so a video is coded in chunks: one frame, then four at a
//! time (encoding), or one latent frame at a time (decoding). The last frames of each convolution
//! are kept between chunks. Coding a whole video is a loop over chunks; coding in tiles is such a
//! loop per tile. Source: diffusers 0.42.1 `AutoencoderKLWan`; Wan2.1 9737cba `wan/modules/vae.py`.

mod autoencoder;
mod config;
mod conv;
mod cost;
mod decode;
mod decoder;
mod encode;
mod encoder;
mod footprint;
mod layers;
mod memory;
mod patches;
mod reach;
mod rgb;
mod shortcut;
mod tiles;
mod work;

pub use autoencoder::{Half, Vae};
pub use config::VaeConfig;
pub use decode::VaeDecoder;
pub use encode::{Posterior, VaeEncoder};
pub use footprint::StreamBytes;
pub use rgb::LatentRgb;
pub use tiles::Tiling;

#[cfg(test)]
mod tests;
