//! Encoding: pixels to latents, chunk by chunk.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::finite;
use crate::observer::Observer;
use crate::vae::autoencoder::Vae;
use crate::vae::config::VaeConfig;
use crate::vae::memory::Memory;
use crate::vae::patches;
use crate::vae::tiles::{Tiles, Tiling};

/// Mean and log-variance of latents, each `[B,z,F,h,w]`. Pipelines use the mean.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// Mean, not normalised (see [`Vae::normalise`]).
    pub mean: Tensor,
    /// Logarithm of the variance, within [-30, 20].
    pub logvar: Tensor,
}

/// Encodes a stream of pixel frames: first one frame, then four at a time.
pub struct VaeEncoder<'a> {
    vae: &'a Vae,
    tiling: Option<Tiling>,
    /// One per tile.
    memories: Vec<Memory>,
}

impl<'a> VaeEncoder<'a> {
    pub(crate) fn new(vae: &'a Vae, tiling: Option<Tiling>) -> Self {
        Self { vae, tiling, memories: Vec::new() }
    }

    /// Pixel frames that the next chunk must have.
    pub fn chunk_frames(&self) -> usize {
        let first = self.memories.first().is_none_or(Memory::is_first);
        if first { 1 } else { self.vae.config().scale_factor_temporal }
    }

    /// Bytes that the stream keeps until the next chunk; constant from the third chunk on.
    pub fn held_bytes(&self) -> usize {
        Memory::bytes(&self.memories)
    }

    /// Encodes the next chunk `[B,3,1 or 4,H,W]` in [-1,1] to one latent frame `[B,z,1,h,w]`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or another size than before.
    pub fn next(&mut self, chunk: &Tensor) -> Result<Posterior> {
        self.next_observed(chunk, &mut ())
    }

    /// [`next`](Self::next), observed: [`Point::VaeHidden`](crate::Point::VaeHidden) is what enters
    /// each layer. After an error the stream is of no use.
    ///
    /// # Errors
    /// As there; [`Error::Stopped`] if the observer ends the pass.
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
                Memory::one_for_each(&mut self.memories, (tiles.count(), 0), &patches)?;
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
    /// Encodes a video `[B,3,T,H,W]` in [-1,1], `T = 4(F-1)+1`, to latents `[B,z,F,h,w]`.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
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

    /// [`encode`](Self::encode), tile by tile: activations and memory of only one tile exist at a
    /// time. The latents equal those of [`encoder_tiled`](Self::encoder_tiled), which keeps the
    /// memory of every tile but only a few frames.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or a tiling that does not fit the VAE.
    pub fn encode_tiled(&self, video: &Tensor, tiling: Tiling) -> Result<Posterior> {
        self.check_video(video, None)?;
        let patches = self.patches(video)?; // [B,T,C,H,W]
        let tiles = self.tiles_to_encode(tiling, &patches)?;
        let _span = tracing::info_span!("vae_encode", tiles = tiles.count()).entered();
        let encode = |number| self.encode_clip(&tiles.cut(&patches, number)?);
        let encoded = (0..tiles.count()).map(encode).collect::<Result<_>>()?;
        self.posterior(&tiles.join(encoded)?)
    }

    /// An encoder for a stream of pixel frames.
    pub fn encoder(&self) -> VaeEncoder<'_> {
        VaeEncoder::new(self, None)
    }

    /// An encoder for a stream of pixel frames, in tiles.
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
        self.quant_conv.forward(&self.encoder.forward(
            patches,
            self.encoder.parts(),
            memory,
            observer,
        )?)
    }

    /// Moments `[B,F,2z,h,w]` to mean and log-variance.
    fn posterior(&self, moments: &Tensor) -> Result<Posterior> {
        let moments = moments.transpose(1, 2)?.contiguous()?; // [B,2z,F,h,w]
        let moments = finite::checked("the encoder of the VAE", moments)?;
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

    /// Refuses a video that is not `[B,3,T,H,W]` with `T` equal to `frames`; for `None`, with a `T`
    /// that divides into chunks.
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
