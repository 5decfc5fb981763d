//! Latents to pixels, one latent frame at a time.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, Memory, Resample, Residual, Stack};
use crate::vae::{Vae, VaeConfig};

/// The decoder's weights. Source: diffusers 0.42.1 `WanDecoder3d`.
pub(crate) fn load(config: &VaeConfig, vb: VarBuilder) -> Result<Stack> {
    let dims: Vec<_> = config.dim_mult.iter().rev().map(|mult| mult * config.base_dim).collect();
    let mut channels = dims[0];
    let mut layers = Vec::from(Layer::load_middle(channels, vb.pp("mid_block"))?);
    for (level, dim) in dims.iter().enumerate() {
        let block = vb.pp("up_blocks").pp(level);
        for number in 0..=config.num_res_blocks {
            let vb = block.pp("resnets").pp(number);
            layers.push(Layer::Residual(Residual::load(channels, *dim, vb)?));
            channels = *dim;
        }
        if let Some(time) = config.temperal_downsample.iter().rev().nth(level) {
            let vb = block.pp("upsamplers").pp(0);
            layers.push(Layer::Resample(Resample::load_up(channels, *time, vb)?));
            channels /= 2;
        }
    }
    Ok(Stack {
        conv_in: Conv::load(config.z_dim, dims[0], Geometry::CUBE, vb.pp("conv_in"))?,
        layers,
        norm_out: load_gamma(channels, 3, vb.pp("norm_out"))?,
        conv_out: Conv::load(channels, config.out_channels, Geometry::CUBE, vb.pp("conv_out"))?,
    })
}

/// A stream of latent frames into the decoder: one frame comes back for the first, then four
/// for each.
pub struct VaeDecoder<'a> {
    vae: &'a Vae,
    memory: Memory,
}

impl<'a> VaeDecoder<'a> {
    pub(crate) fn new(vae: &'a Vae) -> Self {
        Self { vae, memory: Memory::default() }
    }

    /// The next raw latent frame `[B,z,1,h,w]` to pixels `[B,3,1 or 4,8h,8w]` in [-1,1].
    pub fn next(&mut self, latent: &Tensor) -> Result<Tensor> {
        let z = self.vae.config().z_dim;
        match *latent.dims() {
            [_, channels, 1, _, _] if channels == z => {}
            _ => return Err(Error::input("latent", format!("[B,{z},1,h,w]"), latent.dims())),
        }
        let latent = latent.transpose(1, 2)?.contiguous()?; // [B,1,z,h,w]
        let latent = self.vae.post_quant_conv.forward(&latent)?;
        let pixels = self.vae.decoder.forward(&latent, &mut self.memory)?; // [B,T,3,H,W]
        Ok(pixels.transpose(1, 2)?.contiguous()?.clamp(-1f32, 1f32)?) // [B,3,T,H,W]
    }
}
