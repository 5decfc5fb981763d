//! Given images as the conditions that models were trained with.

use candle_core::Tensor;
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::conditioning::given_frames_mask;
use crate::error::{Error, Result};

/// A pixel frame that is given: its number, and `[1, 3, 1, H, W]` in -1 to 1.
#[derive(Debug, Clone)]
pub struct GivenFrame {
    /// Pixel frame, from 0.
    pub number: usize,
    /// The picture.
    pub pixels: Tensor,
}

/// Channels that Wan's image-to-video models take beside the latents, `[1, 4 + z, F, h, w]`: the mask of
/// given frames, and the encoded video that has the given frames and mid grey elsewhere.
///
/// Grey is 0 in pixels and goes through the VAE like everything else, a chunk of frames at a time
/// (Wan2.1, commit 9737cba, `wan/image2video.py`; diffusers 0.42 `WanImageToVideoPipeline`).
///
/// # Errors
/// If no frame is given, or the VAE refuses the sizes; `Cancelled` once `cancel` is set.
pub fn image_channels(
    vae: &Vae,
    given: &[GivenFrame],
    frame_num: usize,
    mut cancel: &Cancel,
) -> Result<Tensor> {
    let first = given.first().ok_or_else(|| Error::invalid("no image is given"))?;
    let grey = first.pixels.zeros_like()?; // [1, 3, 1, H, W]
    let frame = |number: usize| {
        let given = given.iter().find(|g| g.number == number);
        given.map_or(&grey, |g| &g.pixels)
    };
    let mut encoder = vae.encoder();
    let mut means = Vec::new();
    let mut next = 0;
    while next < frame_num {
        let chunk: Vec<&Tensor> =
            (next..(next + encoder.chunk_frames()).min(frame_num)).map(frame).collect();
        next += chunk.len();
        means.push(encoder.next_observed(&Tensor::cat(&chunk, 2)?, &mut cancel)?.mean);
    }
    let latents = vae.normalise(&Tensor::cat(&means, 2)?)?; // [1, z, F, h, w]
    let (_, _, _, height, width) = latents.dims5()?;
    let is_given: Vec<bool> =
        (0..frame_num).map(|number| given.iter().any(|g| g.number == number)).collect();
    let mask = given_frames_mask(&is_given, height, width, latents.device())?;
    Ok(Tensor::cat(&[&mask, &latents], 1)?)
}

/// Latents of given frames, `[1, 3, T, H, W]` in -1 to 1: `[1, z, F, h, w]`, normalised.
///
/// # Errors
/// If the VAE refuses the sizes; `Cancelled` once `cancel` is set.
pub fn encode_frames(vae: &Vae, frames: &Tensor, mut cancel: &Cancel) -> Result<Tensor> {
    let (mut encoder, count) = (vae.encoder(), frames.dim(2)?);
    let (mut means, mut next) = (Vec::new(), 0);
    while next < count {
        let chunk = frames.narrow(2, next, encoder.chunk_frames().min(count - next))?;
        means.push(encoder.next_observed(&chunk, &mut cancel)?.mean);
        next += chunk.dim(2)?;
    }
    Ok(vae.normalise(&Tensor::cat(&means, 2)?)?)
}
