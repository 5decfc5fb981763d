//! Decoding: latents to pixels, one latent frame at a time.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::finite;
use crate::observer::Observer;
use crate::vae::autoencoder::Vae;
use crate::vae::memory::Memory;
use crate::vae::patches;
use crate::vae::reach::Reach;
use crate::vae::tiles::{Tiles, Tiling};

/// Decodes a stream of latent frames: the first becomes one pixel frame, each later one four.
///
/// Pixels depend on a limited number of latent frames before theirs
/// ([`Vae::receptive_frames`]). So a stream can begin in the middle of a video
/// ([`starting_at`](Self::starting_at)), and gives the same pixels to the bit.
pub struct VaeDecoder<'a> {
    vae: &'a Vae,
    tiling: Option<Tiling>,
    /// One per tile.
    memories: Vec<Memory>,
    is_checked: bool,
    /// Number of the latent frame whose pixels are the first.
    first: usize,
    /// Number of the latent frame that comes next.
    next: usize,
}

impl<'a> VaeDecoder<'a> {
    pub(crate) fn new(vae: &'a Vae, tiling: Option<Tiling>) -> Self {
        Self { vae, tiling, memories: Vec::new(), is_checked: true, first: 0, next: 0 }
    }

    /// Begins with the pixels of latent frame `frame` of a video. The frames before it from
    /// [`next_frame`](Self::next_frame) on have to be [`see`](Self::see)n first: at most
    /// [`Vae::receptive_frames`].
    #[must_use]
    pub fn starting_at(self, frame: usize) -> Self {
        let next = frame.saturating_sub(self.vae.receptive_frames());
        Self { memories: Vec::new(), first: frame, next, ..self }
    }

    /// Number of the latent frame of the video that has to come next.
    pub fn next_frame(&self) -> usize {
        self.next
    }

    /// Whether the next latent frame is one that is [`see`](Self::see)n, and has no pixels.
    pub fn only_sees(&self) -> bool {
        self.next < self.first
    }

    /// Gives numbers that are not finite, too, in the place of an error.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { is_checked: false, ..self }
    }

    /// Bytes that the stream keeps until the next frame; constant from the third frame with pixels
    /// on.
    pub fn held_bytes(&self) -> usize {
        Memory::bytes(&self.memories)
    }

    /// Decodes the next raw latent frame `[B,z,1,h,w]` to pixels `[B,3,1 or 4,8h,8w]` (`16h`, `16w`
    /// in Wan 2.2) in [-1,1].
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or another size than before, or if frames before it have
    /// to be [`see`](Self::see)n.
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
        if self.only_sees() {
            let expected = format!("latent frames {} to {} to be seen", self.next, self.first - 1);
            return Err(Error::input("latents", expected, "a frame to be decoded"));
        }
        let vae = self.vae;
        let mut decoded = Vec::new();
        let keep = |tile| decoded.push(tile);
        let tiles = self.pass(latent, vae.decoder.parts(), keep, observer)?;
        let patches = tiles.join(decoded)?;
        if self.is_checked { vae.checked_pixels(&patches) } else { vae.pixels(&patches) }
    }

    /// The next raw latent frame, `[B,z,1,h,w]`, is one of those before the first that has pixels:
    /// layers see it as far as later pixels depend on what they make of it. That is all of them for
    /// the last frames alone, and less and less before.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, another size than before, or a frame that has pixels.
    pub fn see(&mut self, latent: &Tensor) -> Result<()> {
        self.see_observed(latent, &mut ())
    }

    /// [`see`](Self::see), observed as [`next_observed`](Self::next_observed) is.
    ///
    /// # Errors
    /// As there.
    pub fn see_observed(&mut self, latent: &Tensor, observer: &mut dyn Observer) -> Result<()> {
        if !self.only_sees() {
            let expected = format!("latent frame {} to be decoded", self.next);
            return Err(Error::input("latents", expected, "a frame to be seen"));
        }
        let before = self.first - self.next;
        let reaches = self.vae.decoder_reaches();
        let parts = reaches.iter().take_while(|reach| before <= reach.chunks()).count();
        self.pass(latent, parts, drop, observer).map(drop)
    }

    /// Runs the first parts of the network on the next frame; what they give of each tile is kept.
    fn pass(
        &mut self,
        latent: &Tensor,
        parts: usize,
        mut keep: impl FnMut(Tensor),
        observer: &mut dyn Observer,
    ) -> Result<Tiles> {
        let vae = self.vae;
        let latent = vae.check_latents(latent, Some(1))?; // [B,1,z,h,w]
        let tiles = match self.tiling {
            None => Tiles::WHOLE,
            Some(tiling) => vae.tiles_to_decode(tiling, &latent)?,
        };
        Memory::one_for_each(&mut self.memories, (tiles.count(), self.next), &latent)?;
        for (number, memory) in self.memories.iter_mut().enumerate() {
            keep(vae.decode_chunk(&tiles.cut(&latent, number)?, parts, memory, observer)?);
        }
        self.next += 1;
        Ok(tiles)
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

    /// Latent frames before one that its pixels depend on, and no others: two frames for each
    /// convolution over time on the way to them, at the frame rate of its layer. A decoder that has
    /// seen so many remembers what one remembers that has seen all.
    pub fn receptive_frames(&self) -> usize {
        self.decoder_reaches()[0].chunks()
    }

    fn decoder_reaches(&self) -> Vec<Reach> {
        self.decoder.reaches(self.config.scale_factor_temporal)
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
        let (mut memory, parts) = (Memory::default(), self.decoder.parts());
        let chunks = (0..latents.dim(1)?)
            .map(|frame| {
                let latent = latents.narrow(1, frame, 1)?;
                self.decode_chunk(&latent, parts, &mut memory, &mut ())
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&chunks, 1)?)
    }

    /// The first parts of the network alone.
    fn decode_chunk(
        &self,
        latent: &Tensor,
        parts: usize,
        memory: &mut Memory,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        self.decoder.forward(&self.post_quant_conv.forward(latent)?, parts, memory, observer)
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
