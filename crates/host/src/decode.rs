//! Latents to frames.

use candle_core::{DType, Device, Tensor};
use wan_media::VideoFrames;
use wan_model::vae::{Tiling, Vae, VaeDecoder};

use crate::cancel::Cancel;
use crate::denoiser::LATENT_FRAME_AXIS;
use crate::error::Result;
use crate::loaded::{Loaded, PartLoader};
use crate::model_folder::ModelFolder;

/// Loads the VAE of a model, in f32.
///
/// # Errors
/// If a file is missing, truncated or does not fit its config.
pub fn load_vae(folder: &ModelFolder, device: &Device) -> Result<Loaded<Vae>> {
    PartLoader::new(folder.clone(), device.clone()).vae()
}

/// The frames of normalised latents `[1, z, F, h, w]`, one latent frame's pixels at a time: 1 for the
/// first, 4 for each of the others. With `tiling` each is decoded in tiles that are blended, which
/// bounds the memory of a large picture.
pub struct Decoding<'v> {
    decoder: VaeDecoder<'v>,
    /// `[1, z, F, h, w]`, as the VAE has them.
    latents: Tensor,
    next: usize,
    cancel: Cancel,
}

impl<'v> Decoding<'v> {
    /// Begins to decode; it ends early once `cancel` is set.
    ///
    /// # Errors
    /// If the latents do not fit the VAE.
    pub fn new(
        vae: &'v Vae,
        latents: &Tensor,
        tiling: Option<Tiling>,
        cancel: Cancel,
    ) -> Result<Self> {
        let latents = vae.denormalise(latents)?;
        let decoder = tiling.map_or_else(|| vae.decoder(), |tiling| vae.decoder_tiled(tiling));
        Ok(Self { decoder, latents, next: 0, cancel })
    }

    /// Latent frames in all.
    pub fn latent_frames(&self) -> usize {
        self.latents.dims()[LATENT_FRAME_AXIS]
    }

    /// Latent frames that are decoded.
    pub fn done(&self) -> usize {
        self.next
    }

    fn decode_next(&mut self) -> Result<VideoFrames> {
        self.cancel.check()?;
        let frame = self.latents.narrow(LATENT_FRAME_AXIS, self.next, 1)?;
        let pixels = self.decoder.next(&frame)?; // [1, 3, 1 or 4, H, W]
        let (_, _, _, height, width) = pixels.dims5()?;
        let bytes = ((pixels.squeeze(0)?.permute((1, 2, 3, 0))? + 1.0)? * 127.5)? // [T, H, W, 3]
            .round()?
            .clamp(0.0, 255.0)?
            .to_dtype(DType::U8)?;
        let rgb = bytes.flatten_all()?.to_vec1::<u8>()?;
        self.next += 1;
        Ok(VideoFrames::new(width, height, rgb)?)
    }
}

impl Iterator for Decoding<'_> {
    type Item = Result<VideoFrames>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.latent_frames() {
            return None;
        }
        let decoded = self.decode_next();
        if decoded.is_err() {
            self.next = self.latent_frames();
        }
        Some(decoded)
    }
}

/// All frames of a decoding; `progress` is told how many latent frames are done, and of how many.
///
/// # Errors
/// If the VAE fails, or decoding is cancelled.
pub fn decode(
    mut decoding: Decoding<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<VideoFrames> {
    let (mut rgb, mut size) = (Vec::new(), (0, 0));
    while let Some(frames) = decoding.next() {
        let frames = frames?;
        size = (frames.width(), frames.height());
        rgb.extend_from_slice(frames.rgb());
        progress(decoding.done(), decoding.latent_frames());
    }
    Ok(VideoFrames::new(size.0, size.1, rgb)?)
}
