//! Latents to frames.

use candle_core::{DType, Device, Tensor};
use wan_model::vae::{Tiling, Vae};

use crate::error::Result;
use crate::loaded::{Loaded, PartLoader};
use crate::model_folder::ModelFolder;
use crate::video::VideoFrames;

/// Loads the VAE of a model, in f32.
///
/// # Errors
/// If a file is missing, truncated or does not fit its config.
pub fn load_vae(folder: &ModelFolder, device: &Device) -> Result<Loaded<Vae>> {
    PartLoader::new(folder.clone(), device.clone()).vae()
}

/// Decodes normalised latents `[1, z, F, h, w]` to frames, one latent frame at a time; with `tiling`,
/// each in tiles that are blended, which bounds the memory of a large picture.
///
/// # Errors
/// If the latents do not fit the VAE.
pub fn decode(
    vae: &Vae,
    latents: &Tensor,
    tiling: Option<Tiling>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<VideoFrames> {
    let raw = vae.denormalise(latents)?;
    let count = raw.dims()[2];
    let mut decoder = tiling.map_or_else(|| vae.decoder(), |tiling| vae.decoder_tiled(tiling));
    let (mut rgb, mut size) = (Vec::new(), (0, 0));
    for frame in 0..count {
        let pixels = decoder.next(&raw.narrow(2, frame, 1)?)?; // [1, 3, 1 or 4, H, W]
        let (_, _, _, height, width) = pixels.dims5()?;
        size = (width, height);
        let bytes = ((pixels.squeeze(0)?.permute((1, 2, 3, 0))? + 1.0)? * 127.5)? // [T, H, W, 3]
            .round()?
            .clamp(0.0, 255.0)?
            .to_dtype(DType::U8)?;
        rgb.extend(bytes.flatten_all()?.to_vec1::<u8>()?);
        progress(frame + 1, count);
    }
    Ok(VideoFrames::new(size.0, size.1, rgb)?)
}
