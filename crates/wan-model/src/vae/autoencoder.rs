//! The autoencoder: both networks, and the statistics of the latents.

use crate::weights::{Held, Scope, Turns};
use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::vae::config::VaeConfig;
use crate::vae::conv::{Conv, Geometry};
use crate::vae::layers::Stack;
use crate::vae::{decoder, encoder};

/// A Wan 2.1 or 2.2 VAE. Immutable; streams own their memory.
pub struct Vae {
    pub(super) config: VaeConfig,
    pub(super) encoder: Stack,
    pub(super) quant_conv: Conv,
    pub(super) post_quant_conv: Conv,
    pub(super) decoder: Stack,
}

/// One of a VAE's two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Pixels to latents.
    Encoder,
    /// Latents to pixels.
    Decoder,
}

impl Vae {
    /// Builds encoder and decoder from weights under diffusers' names.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that fits no VAE, and errors of missing or misshaped tensors.
    pub fn load(config: VaeConfig, scope: Scope) -> Result<Self> {
        config.check()?;
        let _span = tracing::info_span!("load_vae").entered();
        let (z, point) = (config.z_dim, Geometry::POINT);
        Ok(Self {
            encoder: encoder::load(&config, scope.pp("encoder"))?,
            quant_conv: Conv::load(2 * z, 2 * z, point, scope.pp("quant_conv"))?,
            post_quant_conv: Conv::load(z, z, point, scope.pp("post_quant_conv"))?,
            decoder: decoder::load(&config, scope.pp("decoder"))?,
            config,
        })
    }

    /// Reads the weights of one network that are in memory for their turns alone, and keeps them until
    /// what is given is dropped.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn hold(&self, half: Half) -> Result<Held<'_>> {
        self.turns(half).hold()
    }

    /// Bytes of weights of one network that come and go with their turns: at most at a time, and all
    /// of them.
    pub fn turn_bytes(&self, half: Half) -> (u64, u64) {
        (self.turns(half).bytes_max(), self.turns(half).bytes())
    }

    fn turns(&self, half: Half) -> &Turns {
        match half {
            Half::Encoder => &self.encoder.turns,
            Half::Decoder => &self.decoder.turns,
        }
    }

    /// The config the VAE was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Raw latents `[B,z,F,h,w]` to the latents of the transformer: `(latents - mean) / std`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
    pub fn normalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.statistics(latents)?;
        Ok(latents.broadcast_sub(&mean)?.broadcast_div(&std)?)
    }

    /// The inverse of [`normalise`](Self::normalise): `latents * std + mean`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
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
