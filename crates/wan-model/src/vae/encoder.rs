//! Pixels to latents, chunk by chunk.

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
    let mut channels = config.base_dim;
    let mut layers = Vec::new();
    let blocks = vb.pp("down_blocks");
    let mut flat = (0..).map(|number: usize| blocks.pp(number));
    for (level, dim) in dims.iter().enumerate() {
        let time = config.temperal_downsample.get(level).copied();
        if config.is_residual {
            let level = load_level(config, (channels, *dim), time, blocks.pp(level))?;
            layers.push(Layer::Level(level));
        } else {
            // Wan 2.1 counts the layers of all levels in one list.
            let names = flat.by_ref().take(config.num_res_blocks + usize::from(time.is_some()));
            layers.extend(load_layers((channels, *dim), time, names.collect())?);
        }
        channels = *dim;
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

/// Residual blocks, then the step down unless `time` is absent, which is the last level's.
fn load_layers(
    (inputs, dim): (usize, usize),
    time: Option<bool>,
    mut names: Vec<VarBuilder>,
) -> Result<Vec<Layer>> {
    let down = time.and_then(|time| Some((time, names.pop()?)));
    let mut layers = Vec::new();
    for (number, vb) in names.into_iter().enumerate() {
        let channels = if number == 0 { inputs } else { dim };
        layers.push(Layer::Residual(Residual::load(channels, dim, vb)?));
    }
    if let Some((time, vb)) = down {
        layers.push(Layer::Resample(Resample::load_down(dim, time, vb)?));
    }
    Ok(layers)
}

/// A level of Wan 2.2, with its shortcut.
fn load_level(
    config: &VaeConfig,
    channels: (usize, usize),
    time: Option<bool>,
    vb: VarBuilder,
) -> Result<Level> {
    let resnets = (0..config.num_res_blocks).map(|number| vb.pp("resnets").pp(number));
    let names = resnets.chain(time.map(|_| vb.pp("downsampler")));
    let layers = load_layers(channels, time, names.collect())?;
    let (time, space) = (1 + usize::from(time == Some(true)), 1 + usize::from(time.is_some()));
    let to = Resolution { channels: channels.1, time, space };
    Ok(Level { layers, shortcut: Shortcut::Average(to) })
}

/// A stream of frames into the encoder: first one frame, then four at a time.
pub struct VaeEncoder<'a> {
    vae: &'a Vae,
    tiling: Option<Tiling>,
    /// One for each tile.
    memories: Vec<Memory>,
}

impl<'a> VaeEncoder<'a> {
    pub(crate) fn new(vae: &'a Vae, tiling: Option<Tiling>) -> Self {
        Self { vae, tiling, memories: Vec::new() }
    }

    /// Frames the next chunk has to hold.
    pub fn chunk_frames(&self) -> usize {
        let first = self.memories.first().is_none_or(Memory::is_first);
        if first { 1 } else { self.vae.config().scale_factor_temporal }
    }

    /// Bytes that the stream keeps until the next chunk. They do not grow from the third chunk on.
    pub fn held_bytes(&self) -> usize {
        Memory::bytes(&self.memories)
    }

    /// The next chunk `[B,3,1 or 4,H,W]` in [-1,1] to one latent frame `[B,z,1,h,w]`.
    pub fn next(&mut self, chunk: &Tensor) -> Result<Posterior> {
        self.next_observed(chunk, &mut ())
    }

    /// As [`next`](Self::next), with what enters each layer shown. After an error the stream is of no
    /// use any more.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::Stopped`] where the observer ends the pass.
    pub fn next_observed(
        &mut self,
        chunk: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Posterior> {
        let vae = self.vae;
        vae.check_video(chunk, Some(self.chunk_frames()))?;
        let patches = vae.patches(chunk)?; // [B,T,C,H,W]
        let moments = match self.tiling {
            None => {
                self.memories.resize_with(1, Memory::default);
                vae.encode_chunk(&patches, &mut self.memories[0], observer)?
            }
            Some(tiling) => {
                let tiles = vae.tiles_to_encode(tiling, &patches)?;
                Memory::one_for_each(&mut self.memories, tiles.count(), &patches)?;
                let encode = |(number, memory)| {
                    vae.encode_chunk(&tiles.cut(&patches, number)?, memory, observer)
                };
                let encoded = self.memories.iter_mut().enumerate().map(encode);
                tiles.join(encoded.collect::<Result<_>>()?)?
            }
        };
        vae.posterior(&moments)
    }
}

impl Vae {
    /// Video `[B,3,T,H,W]` in [-1,1], `T = 4(F-1)+1`, to latents `[B,z,F,h,w]`.
    pub fn encode(&self, video: &Tensor) -> Result<Posterior> {
        let _span = tracing::info_span!("vae_encode").entered();
        self.check_video(video, None)?;
        let mut encoder = self.encoder();
        let (mut means, mut logvars, mut start) = (Vec::new(), Vec::new(), 0);
        while start < video.dim(2)? {
            let chunk = encoder.chunk_frames();
            let Posterior { mean, logvar } = encoder.next(&video.narrow(2, start, chunk)?)?;
            means.push(mean);
            logvars.push(logvar);
            start += chunk;
        }
        Ok(Posterior { mean: Tensor::cat(&means, 2)?, logvar: Tensor::cat(&logvars, 2)? })
    }

    /// As [`encode`](Self::encode), tile after tile: only one tile's activations and memory exist
    /// at a time. What comes out is that of [`encoder_tiled`](Self::encoder_tiled), which keeps
    /// every tile's memory but no more than a few frames.
    pub fn encode_tiled(&self, video: &Tensor, tiling: Tiling) -> Result<Posterior> {
        self.check_video(video, None)?;
        let patches = self.patches(video)?; // [B,T,C,H,W]
        let tiles = self.tiles_to_encode(tiling, &patches)?;
        let _span = tracing::info_span!("vae_encode", tiles = tiles.count()).entered();
        let encode = |number| self.encode_clip(&tiles.cut(&patches, number)?);
        let encoded = (0..tiles.count()).map(encode).collect::<Result<_>>()?;
        self.posterior(&tiles.join(encoded)?)
    }

    /// A stream of frames to encode.
    pub fn encoder(&self) -> VaeEncoder<'_> {
        VaeEncoder::new(self, None)
    }

    /// A stream of frames to encode in tiles.
    pub fn encoder_tiled(&self, tiling: Tiling) -> VaeEncoder<'_> {
        VaeEncoder::new(self, Some(tiling))
    }

    fn tiles_to_encode(&self, tiling: Tiling, patches: &Tensor) -> Result<Tiles> {
        let (_, _, _, height, width) = patches.dims5()?;
        Tiles::to_encode(tiling, &self.config, (height, width))
    }

    /// Patches `[B,T,C,H,W]` to moments `[B,F,2z,h,w]`.
    fn encode_clip(&self, patches: &Tensor) -> Result<Tensor> {
        let (frames, chunk) = (patches.dim(1)?, self.config.scale_factor_temporal);
        let mut memory = Memory::default();
        let mut encode = |start, frames| {
            self.encode_chunk(&patches.narrow(1, start, frames)?, &mut memory, &mut ())
        };
        let mut moments = vec![encode(0, 1)?];
        for start in (1..frames).step_by(chunk) {
            moments.push(encode(start, chunk)?);
        }
        Ok(Tensor::cat(&moments, 1)?)
    }

    fn encode_chunk(
        &self,
        patches: &Tensor,
        memory: &mut Memory,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        self.quant_conv.forward(&self.encoder.forward(patches, memory, observer)?)
    }

    /// Moments `[B,F,2z,h,w]` to mean and log-variance.
    fn posterior(&self, moments: &Tensor) -> Result<Posterior> {
        let moments = moments.transpose(1, 2)?.contiguous()?; // [B,2z,F,h,w]
        let z = self.config.z_dim;
        Ok(Posterior {
            mean: moments.narrow(1, 0, z)?.contiguous()?,
            logvar: moments.narrow(1, z, z)?.clamp(-30f32, 20f32)?,
        })
    }

    /// Video `[B,3,T,H,W]` to patches `[B,T,C,H',W']`.
    fn patches(&self, video: &Tensor) -> Result<Tensor> {
        let frames = video.transpose(1, 2)?.contiguous()?; // [B,T,3,H,W]
        Ok(patches::fold(&frames, self.config.patch_side())?)
    }

    /// Whether a video `[B,3,T,H,W]` fits, with as many frames as asked for, or any number that
    /// the encoder can cut into chunks.
    fn check_video(&self, video: &Tensor, frames: Option<usize>) -> Result<()> {
        let VaeConfig { scale_factor_spatial: factor, scale_factor_temporal: chunk, .. } =
            self.config;
        let p = self.config.patch_side();
        let channels = self.config.in_channels / (p * p);
        match *video.dims() {
            [_, found, t, height, width]
                if found == channels
                    && frames.map_or(t % chunk == 1 % chunk, |frames| frames == t)
                    && height % factor == 0
                    && width % factor == 0 =>
            {
                Ok(())
            }
            _ => {
                let frames = frames.map_or(format!("{chunk} n + 1"), |frames| frames.to_string());
                let expected =
                    format!("[B,{channels},{frames},H,W], H and W multiples of {factor}");
                Err(Error::input("video", expected, video.dims()))
            }
        }
    }
}
