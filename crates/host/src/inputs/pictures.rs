//! Given pictures as the conditions that models were trained with.

use std::ops::Range;

use candle_core::Tensor;
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::inputs::conditions::{Conditions, given_frames_mask};
use crate::latents::LATENT_FRAME_AXIS;

impl Conditions {
    /// Channels that Wan's image-to-video models take beside the latents, `[1, 4 + z, F, h, w]`:
    /// the mask of given frames, and the encoded video that has the given frames and mid grey
    /// elsewhere. `given` has the number of a pixel frame, from 0, with its picture,
    /// `[1, 3, 1, H, W]` in -1 to 1.
    ///
    /// Grey is 0 in pixels and goes through the VAE like everything else, a chunk of frames at a
    /// time (Wan2.1, commit 9737cba, `wan/image2video.py`; diffusers 0.42
    /// `WanImageToVideoPipeline`).
    ///
    /// # Errors
    /// If no frame is given, or the VAE refuses the sizes; `Cancelled` once `cancel` is set.
    pub fn channels_of(
        vae: &Vae,
        given: &[(usize, Tensor)],
        frame_num: usize,
        cancel: &Cancel,
    ) -> Result<Tensor> {
        let (_, first) = given.first().ok_or_else(|| Error::invalid("no image is given"))?;
        let grey = first.zeros_like()?; // [1, 3, 1, H, W]
        let find = |number: usize| given.iter().find(|(given, _)| *given == number);
        let latents = encode(vae, frame_num, cancel, |numbers| {
            let frames = numbers.map(|number| find(number).map_or(&grey, |(_, pixels)| pixels));
            Tensor::cat(&frames.collect::<Vec<_>>(), 2)
        })?; // [1, z, F, h, w]
        let (_, _, _, height, width) = latents.dims5()?;
        let is_given: Vec<bool> = (0..frame_num).map(|number| find(number).is_some()).collect();
        let mask = given_frames_mask(&is_given, height, width, latents.device())?;
        Ok(Tensor::cat(&[&mask, &latents], 1)?)
    }

    /// Latents of given frames, `[1, 3, T, H, W]` in -1 to 1: `[1, z, F, h, w]`, normalised.
    ///
    /// # Errors
    /// If the VAE refuses the sizes; `Cancelled` once `cancel` is set.
    pub fn clean_latents_of(vae: &Vae, frames: &Tensor, cancel: &Cancel) -> Result<Tensor> {
        let chunk = |numbers: Range<usize>| frames.narrow(2, numbers.start, numbers.len());
        encode(vae, frames.dim(2)?, cancel, chunk)
    }
}

/// Normalised latents of `count` pixel frames, of which `chunk` gives some, `[1, 3, T, H, W]`.
fn encode(
    vae: &Vae,
    count: usize,
    mut cancel: &Cancel,
    chunk: impl Fn(Range<usize>) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let mut encoder = vae.encoder();
    let (mut means, mut next) = (Vec::new(), 0);
    while next < count {
        let numbers = next..(next + encoder.chunk_frames()).min(count);
        next = numbers.end;
        means.push(encoder.next_observed(&chunk(numbers)?, &mut cancel)?.mean);
    }
    Ok(vae.normalise(&Tensor::cat(&means, LATENT_FRAME_AXIS)?)?)
}
