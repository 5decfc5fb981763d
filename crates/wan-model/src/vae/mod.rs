//! The causal 3-D VAE of Wan 2.1: eight times smaller in space, four times in time.
//!
//! Every convolution over time is causal, so video streams through in chunks: one frame, then
//! four at a time (encoding), or one latent frame at a time (decoding), with the last frames
//! each convolution saw kept between chunks. Encoding or decoding whole is a loop over chunks.
//! Source: diffusers 0.42.1 `AutoencoderKLWan`; Wan2.1 9737cba `wan/modules/vae.py`.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};

mod config;
mod conv;
mod decoder;
mod encoder;
mod layers;

pub use config::VaeConfig;
pub use decoder::VaeDecoder;
pub use encoder::{Posterior, VaeEncoder};

/// A Wan 2.1 VAE. Immutable; streams carry their own memory.
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

    /// Video `[B,3,T,H,W]` in [-1,1], `T = 4(F-1)+1`, to latents `[B,z,F,h,w]`.
    pub fn encode(&self, video: &Tensor) -> Result<Posterior> {
        let _span = tracing::info_span!("vae_encode").entered();
        let (_, _, frames, ..) = video.dims5()?;
        let factor = self.config.scale_factor_temporal;
        if frames == 0 || (frames - 1) % factor != 0 {
            return Err(Error::input("video", format!("{factor} n + 1 frames"), frames));
        }
        let mut encoder = self.encoder();
        let (mut means, mut logvars) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < frames {
            let chunk = encoder.chunk_frames();
            let Posterior { mean, logvar } = encoder.next(&video.narrow(2, start, chunk)?)?;
            means.push(mean);
            logvars.push(logvar);
            start += chunk;
        }
        Ok(Posterior { mean: Tensor::cat(&means, 2)?, logvar: Tensor::cat(&logvars, 2)? })
    }

    /// Raw latents `[B,z,F,h,w]` to video `[B,3,4(F-1)+1,8h,8w]`, clamped to [-1,1].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let _span = tracing::info_span!("vae_decode").entered();
        let (_, _, frames, ..) = latents.dims5()?;
        let mut decoder = self.decoder();
        let chunks = (0..frames)
            .map(|frame| decoder.next(&latents.narrow(2, frame, 1)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&chunks, 2)?)
    }

    /// A stream of frames to encode.
    pub fn encoder(&self) -> VaeEncoder<'_> {
        VaeEncoder::new(self)
    }

    /// A stream of latent frames to decode.
    pub fn decoder(&self) -> VaeDecoder<'_> {
        VaeDecoder::new(self)
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
