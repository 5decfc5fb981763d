//! Decoding: latents to pixels, one latent frame at a time.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::finite;
use crate::observer::Observer;
use crate::vae::autoencoder::Vae;
use crate::vae::memory::Memory;
use crate::vae::patches;
use crate::vae::tiles::{Tiles, Tiling};

/// Decodes a stream of latent frames: the first becomes one pixel frame, each later one four.
pub struct VaeDecoder<'a> {
    vae: &'a Vae,
    tiling: Option<Tiling>,
    /// One per tile.
    memories: Vec<Memory>,
    is_checked: bool,
}

impl<'a> VaeDecoder<'a> {
    pub(crate) fn new(vae: &'a Vae, tiling: Option<Tiling>) -> Self {
        Self { vae, tiling, memories: Vec::new(), is_checked: true }
    }

    /// Gives numbers that are not finite, too, in the place of an error.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { is_checked: false, ..self }
    }

    /// Bytes that the stream keeps until the next frame; constant from the third frame on.
    pub fn held_bytes(&self) -> usize {
        Memory::bytes(&self.memories)
    }

    /// Decodes the next raw latent frame `[B,z,1,h,w]` to pixels `[B,3,1 or 4,8h,8w]` (`16h`, `16w`
    /// in Wan 2.2) in [-1,1].
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or another size than before.
    pub fn next(&mut self, latent: &Tensor) -> Result<Tensor> {
        self.next_observed(latent, &mut ())
    }

    /// [`next`](Self::next), observed: [`Point::VaeHidden`](crate::Point::VaeHidden) is what enters
    /// each layer. After an error the stream is of no use.
    ///
    /// # Errors
    /// As there; [`Error::Stopped`] if the observer ends the pass.
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
        if self.is_checked { vae.checked_pixels(&patches) } else { vae.pixels(&patches) }
    }
}

impl Vae {
    /// Decodes raw latents `[B,z,F,h,w]` to a video `[B,3,4(F-1)+1,8h,8w]` (`16h`, `16w` in Wan
    /// 2.2), clamped to [-1,1].
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let _span = tracing::info_span!("vae_decode").entered();
        self.check_latents(latents, None)?;
        let mut decoder = self.decoder();
        let chunks = (0..latents.dim(2)?)
            .map(|frame| decoder.next(&latents.narrow(2, frame, 1)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&chunks, 2)?)
    }

    /// [`decode`](Self::decode), tile by tile: activations and memory of only one tile exist at a
    /// time. The video equals that of [`decoder_tiled`](Self::decoder_tiled), which keeps the
    /// memory of every tile but only a few frames.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or a tiling that does not fit the VAE.
    pub fn decode_tiled(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        let latents = self.check_latents(latents, None)?; // [B,F,z,h,w]
        let tiles = self.tiles_to_decode(tiling, &latents)?;
        let _span = tracing::info_span!("vae_decode", tiles = tiles.count()).entered();
        let decode = |number| self.decode_clip(&tiles.cut(&latents, number)?);
        let decoded = (0..tiles.count()).map(decode).collect::<Result<_>>()?;
        self.checked_pixels(&tiles.join(decoded)?)
    }

    /// A decoder for a stream of latent frames.
    pub fn decoder(&self) -> VaeDecoder<'_> {
        VaeDecoder::new(self, None)
    }

    /// A decoder for a stream of latent frames, in tiles.
    pub fn decoder_tiled(&self, tiling: Tiling) -> VaeDecoder<'_> {
        VaeDecoder::new(self, Some(tiling))
    }

    fn tiles_to_decode(&self, tiling: Tiling, latents: &Tensor) -> Result<Tiles> {
        let (_, _, _, height, width) = latents.dims5()?;
        Tiles::to_decode(tiling, &self.config, (height, width))
    }

    /// Latents `[B,F,z,h,w]` to patches `[B,T,C,H,W]`, not yet clamped.
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

    /// As [`pixels`](Self::pixels), of finite numbers alone: clamping would make black of others.
    fn checked_pixels(&self, patches: &Tensor) -> Result<Tensor> {
        self.pixels(&finite::checked("the decoder of the VAE", patches.clone())?)
    }

    /// Patches `[B,T,C,H,W]` to pixels `[B,3,T,H',W']` in [-1,1].
    fn pixels(&self, patches: &Tensor) -> Result<Tensor> {
        let pixels = patches::unfold(patches, self.config.patch_side())?;
        Ok(pixels.transpose(1, 2)?.contiguous()?.clamp(-1f32, 1f32)?)
    }

    /// `[B,z,F,h,w]` to `[B,F,z,h,w]`. Refuses another shape, and another number of frames than
    /// `frames`.
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
