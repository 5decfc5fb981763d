//! Latents to pixels, one latent frame at a time.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
use crate::observer::Observer;
use crate::vae::conv::{Conv, Geometry, load_gamma};
use crate::vae::layers::{Layer, Memory, Resample, Residual, Stack};
use crate::vae::patches;
use crate::vae::shortcut::{Level, Resolution, Shortcut};
use crate::vae::tiles::{Tiles, Tiling};
use crate::vae::{Vae, VaeConfig};

/// The decoder's weights. Source: diffusers 0.42.1 `WanDecoder3d`.
pub(crate) fn load(config: &VaeConfig, vb: VarBuilder) -> Result<Stack> {
    let base = config.decoder_base_dim.unwrap_or(config.base_dim);
    let dims: Vec<_> = config.dim_mult.iter().rev().map(|mult| mult * base).collect();
    let mut channels = dims[0];
    let mut layers = Vec::from(Layer::load_middle(channels, vb.pp("mid_block"))?);
    for (level, dim) in dims.iter().enumerate() {
        let block = vb.pp("up_blocks").pp(level);
        let time = config.temperal_downsample.iter().rev().nth(level).copied();
        let (own, outputs) = load_level(config, (channels, *dim), time, block)?;
        layers.extend(own);
        channels = outputs;
    }
    Ok(Stack {
        conv_in: Conv::load(config.z_dim, dims[0], Geometry::CUBE, vb.pp("conv_in"))?,
        layers,
        norm_out: load_gamma(channels, 3, vb.pp("norm_out"))?,
        conv_out: Conv::load(channels, config.out_channels, Geometry::CUBE, vb.pp("conv_out"))?,
    })
}

/// One level and the channels that leave it. `time` says whether frames are doubled with the
/// size; it is absent in the last level, which does not change the resolution.
fn load_level(
    config: &VaeConfig,
    (inputs, dim): (usize, usize),
    time: Option<bool>,
    vb: VarBuilder,
) -> Result<(Vec<Layer>, usize)> {
    let mut layers = Vec::new();
    for number in 0..=config.num_res_blocks {
        let channels = if number == 0 { inputs } else { dim };
        let vb = vb.pp("resnets").pp(number);
        layers.push(Layer::Residual(Residual::load(channels, dim, vb)?));
    }
    let Some(time) = time else { return Ok((layers, dim)) };
    if !config.is_residual {
        let vb = vb.pp("upsamplers").pp(0);
        layers.push(Layer::Resample(Resample::load_up((dim, dim / 2), time, vb)?));
        return Ok((layers, dim / 2));
    }
    layers.push(Layer::Resample(Resample::load_up((dim, dim), time, vb.pp("upsampler"))?));
    let to = Resolution { channels: dim, time: 1 + usize::from(time), space: 2 };
    let level = Level { layers, shortcut: Shortcut::Repeat(to) };
    Ok((vec![Layer::Level(level)], dim))
}

/// A stream of latent frames into the decoder: one frame comes back for the first, then four
/// for each.
pub struct VaeDecoder<'a> {
    vae: &'a Vae,
    tiling: Option<Tiling>,
    /// One for each tile.
    memories: Vec<Memory>,
}

impl<'a> VaeDecoder<'a> {
    pub(crate) fn new(vae: &'a Vae, tiling: Option<Tiling>) -> Self {
        Self { vae, tiling, memories: Vec::new() }
    }

    /// Bytes that the stream keeps until the next frame. They do not grow from the third frame on.
    pub fn held_bytes(&self) -> usize {
        Memory::bytes(&self.memories)
    }

    /// The next raw latent frame `[B,z,1,h,w]` to pixels `[B,3,1 or 4,8h,8w]` (`16h`, `16w` in
    /// Wan 2.2) in [-1,1].
    pub fn next(&mut self, latent: &Tensor) -> Result<Tensor> {
        self.next_observed(latent, &mut ())
    }

    /// As [`next`](Self::next), with what enters each layer shown. After an error the stream is of no
    /// use any more.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::Stopped`] where the observer ends the pass.
    pub fn next_observed(
        &mut self,
        latent: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let vae = self.vae;
        let latent = vae.check_latents(latent, Some(1))?; // [B,1,z,h,w]
        let patches = match self.tiling {
            None => {
                self.memories.resize_with(1, Memory::default);
                vae.decode_chunk(&latent, &mut self.memories[0], observer)?
            }
            Some(tiling) => {
                let tiles = vae.tiles_to_decode(tiling, &latent)?;
                Memory::one_for_each(&mut self.memories, tiles.count(), &latent)?;
                let decode = |(number, memory)| {
                    vae.decode_chunk(&tiles.cut(&latent, number)?, memory, observer)
                };
                let decoded = self.memories.iter_mut().enumerate().map(decode);
                tiles.join(decoded.collect::<Result<_>>()?)?
            }
        };
        vae.pixels(&patches)
    }
}

impl Vae {
    /// Raw latents `[B,z,F,h,w]` to video `[B,3,4(F-1)+1,8h,8w]` (`16h`, `16w` in Wan 2.2),
    /// clamped to [-1,1].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let _span = tracing::info_span!("vae_decode").entered();
        self.check_latents(latents, None)?;
        let mut decoder = self.decoder();
        let chunks = (0..latents.dim(2)?)
            .map(|frame| decoder.next(&latents.narrow(2, frame, 1)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&chunks, 2)?)
    }

    /// As [`decode`](Self::decode), tile after tile: only one tile's activations and memory exist
    /// at a time. What comes out is the video of [`decoder_tiled`](Self::decoder_tiled), which
    /// keeps every tile's memory but no more than a few frames.
    pub fn decode_tiled(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let latents = self.check_latents(latents, None)?; // [B,F,z,h,w]
        let tiles = self.tiles_to_decode(tiling, &latents)?;
        let _span = tracing::info_span!("vae_decode", tiles = tiles.count()).entered();
        let decode = |number| self.decode_clip(&tiles.cut(&latents, number)?);
        let decoded = (0..tiles.count()).map(decode).collect::<Result<_>>()?;
        self.pixels(&tiles.join(decoded)?)
    }

    /// A stream of latent frames to decode.
    pub fn decoder(&self) -> VaeDecoder<'_> {
        VaeDecoder::new(self, None)
    }

    /// A stream of latent frames to decode in tiles.
    pub fn decoder_tiled(&self, tiling: Tiling) -> VaeDecoder<'_> {
        VaeDecoder::new(self, Some(tiling))
    }

    fn tiles_to_decode(&self, tiling: Tiling, latents: &Tensor) -> Result<Tiles> {
        let (_, _, _, height, width) = latents.dims5()?;
        Tiles::to_decode(tiling, &self.config, (height, width))
    }

    /// `[B,F,z,h,w]` to `[B,T,C,H,W]`, in patches and not yet clamped.
    fn decode_clip(&self, latents: &Tensor) -> Result<Tensor> {
        let mut memory = Memory::default();
        let chunks = (0..latents.dim(1)?)
            .map(|frame| self.decode_chunk(&latents.narrow(1, frame, 1)?, &mut memory, &mut ()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&chunks, 1)?)
    }

    fn decode_chunk(
        &self,
        latent: &Tensor,
        memory: &mut Memory,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        self.decoder.forward(&self.post_quant_conv.forward(latent)?, memory, observer)
    }

    /// Patches `[B,T,C,H,W]` to pixels `[B,3,T,H',W']` in [-1,1].
    fn pixels(&self, patches: &Tensor) -> Result<Tensor> {
        let pixels = patches::unfold(patches, self.config.patch_side())?;
        Ok(pixels.transpose(1, 2)?.contiguous()?.clamp(-1f32, 1f32)?)
    }

    /// `[B,z,F,h,w]` to `[B,F,z,h,w]`, with as many frames as asked for.
    fn check_latents(&self, latents: &Tensor, frames: Option<usize>) -> Result<Tensor> {
        let z = self.config.z_dim;
        match *latents.dims() {
            [_, channels, found, _, _]
                if channels == z && found > 0 && frames.is_none_or(|frames| frames == found) =>
            {
                Ok(latents.transpose(1, 2)?.contiguous()?)
            }
            _ => {
                let frames = frames.map_or("F".to_owned(), |frames| frames.to_string());
                Err(Error::input("latents", format!("[B,{z},{frames},h,w]"), latents.dims()))
            }
        }
    }
}
