//! The causal 3-D VAEs of Wan 2.1 and 2.2: eight or sixteen times smaller in space, four times
//! in time.
//!
//! Every convolution over time is causal, so video streams through in chunks: one frame, then
//! four at a time (encoding), or one latent frame at a time (decoding), with the last frames
//! each convolution saw kept between chunks. Encoding or decoding whole is a loop over chunks,
//! and in tiles a loop over tiles of such loops.
//! Source: diffusers 0.42.1 `AutoencoderKLWan`; Wan2.1 9737cba `wan/modules/vae.py`.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};

mod config;
mod conv;
mod decoder;
mod encoder;
mod layers;
mod patches;
mod shortcut;
mod tiles;

pub use config::VaeConfig;
pub use decoder::VaeDecoder;
pub use encoder::{Posterior, VaeEncoder};
pub use tiles::Tiling;

/// A Wan 2.1 or 2.2 VAE. Immutable; streams carry their own memory.
pub struct Vae {
    config: VaeConfig,
    encoder: layers::Stack,
    quant_conv: conv::Conv,
    post_quant_conv: conv::Conv,
    decoder: layers::Stack,
}

impl Vae {
    /// Builds encoder and decoder from weights under diffusers' names.
    pub fn load(config: VaeConfig, vb: VarBuilder) -> Result<Self> {
        config.check()?;
        let _span = tracing::info_span!("load_vae").entered();
        let (z, point) = (config.z_dim, conv::Geometry::POINT);
        Ok(Self {
            encoder: encoder::load(&config, vb.pp("encoder"))?,
            quant_conv: conv::Conv::load(2 * z, 2 * z, point, vb.pp("quant_conv"))?,
            post_quant_conv: conv::Conv::load(z, z, point, vb.pp("post_quant_conv"))?,
            decoder: decoder::load(&config, vb.pp("decoder"))?,
            config,
        })
    }

    /// The config the VAE was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Raw latents `[B,z,F,h,w]` to what the transformer works on: `(latents - mean) / std`.
    pub fn normalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.statistics(latents)?;
        Ok(latents.broadcast_sub(&mean)?.broadcast_div(&std)?)
    }

    /// The inverse of [`normalise`](Self::normalise): `latents * std + mean`.
    pub fn denormalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.statistics(latents)?;
        Ok(latents.broadcast_mul(&std)?.broadcast_add(&mean)?)
    }

    fn statistics(&self, latents: &Tensor) -> Result<(Tensor, Tensor)> {
        let z = self.config.z_dim;
        match *latents.dims() {
            [_, channels, _, _, _] if channels == z => {}
            _ => return Err(Error::input("latents", format!("[B,{z},F,h,w]"), latents.dims())),
        }
        let by_channel = |numbers: &[f64]| {
            let numbers = Tensor::new(numbers, latents.device())?.to_dtype(latents.dtype())?;
            numbers.reshape((1, z, 1, 1, 1))
        };
        Ok((by_channel(&self.config.latents_mean)?, by_channel(&self.config.latents_std)?))
    }
}

#[cfg(test)]
mod tests;
