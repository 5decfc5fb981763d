//! Pixels to latents, chunk by chunk.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, Memory, Resample, Residual, Stack};
use crate::vae::{Vae, VaeConfig};

/// Mean and log-variance of latents, each `[B,z,F,h,w]`. Pipelines use the mean.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// Mean, raw (see [`Vae::normalise`]).
    pub mean: Tensor,
    /// Logarithm of the variance, within [-30, 20].
    pub logvar: Tensor,
}

/// The encoder's weights. Source: diffusers 0.42.1 `WanEncoder3d`.
pub(crate) fn load(config: &VaeConfig, vb: VarBuilder) -> Result<Stack> {
    let dims: Vec<_> = config.dim_mult.iter().map(|mult| mult * config.base_dim).collect();
    let deepest = dims[dims.len() - 1];
    let mut layers = Vec::new();
    let mut channels = config.base_dim;
    let blocks = vb.pp("down_blocks");
    for (level, dim) in dims.iter().enumerate() {
        for _ in 0..config.num_res_blocks {
            let vb = blocks.pp(layers.len());
            layers.push(Layer::Residual(Residual::load(channels, *dim, vb)?));
            channels = *dim;
        }
        if let Some(time) = config.temperal_downsample.get(level) {
            let vb = blocks.pp(layers.len());
            layers.push(Layer::Resample(Resample::load_down(channels, *time, vb)?));
        }
    }
    layers.extend(Layer::load_middle(deepest, vb.pp("mid_block"))?);
    let (in_channels, outputs) = (config.in_channels, 2 * config.z_dim);
    Ok(Stack {
        conv_in: Conv::load(in_channels, config.base_dim, Geometry::CUBE, vb.pp("conv_in"))?,
        layers,
        norm_out: load_gamma(deepest, 3, vb.pp("norm_out"))?,
        conv_out: Conv::load(deepest, outputs, Geometry::CUBE, vb.pp("conv_out"))?,
    })
}

/// A stream of frames into the encoder: first one frame, then four at a time.
pub struct VaeEncoder<'a> {
    vae: &'a Vae,
    memory: Memory,
}

impl<'a> VaeEncoder<'a> {
    pub(crate) fn new(vae: &'a Vae) -> Self {
        Self { vae, memory: Memory::default() }
    }

    /// Frames the next chunk has to hold.
    pub fn chunk_frames(&self) -> usize {
        if self.memory.is_first() { 1 } else { self.vae.config().scale_factor_temporal }
    }

    /// The next chunk `[B,3,1 or 4,H,W]` in [-1,1] to one latent frame `[B,z,1,h,w]`.
    pub fn next(&mut self, chunk: &Tensor) -> Result<Posterior> {
        let config = self.vae.config();
        let (factor, frames) = (config.scale_factor_spatial, self.chunk_frames());
        match *chunk.dims() {
            [_, channels, t, height, width]
                if channels == config.in_channels
                    && t == frames
                    && height % factor == 0
                    && width % factor == 0 => {}
            _ => {
                let channels = config.in_channels;
                let expected =
                    format!("[B,{channels},{frames},H,W], H and W multiples of {factor}");
                return Err(Error::input("chunk", expected, chunk.dims()));
            }
        }
        let chunk = chunk.transpose(1, 2)?.contiguous()?; // [B,T,3,H,W]
        let moments = self.vae.encoder.forward(&chunk, &mut self.memory)?;
        let moments = self.vae.quant_conv.forward(&moments)?; // [B,1,2z,h,w]
        let moments = moments.transpose(1, 2)?.contiguous()?; // [B,2z,1,h,w]
        let z = config.z_dim;
        Ok(Posterior {
            mean: moments.narrow(1, 0, z)?.contiguous()?,
            logvar: moments.narrow(1, z, z)?.clamp(-30f32, 20f32)?,
        })
    }
}
