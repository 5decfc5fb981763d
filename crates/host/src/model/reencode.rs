//! The model's VAE, for samplers that hand frames over through pixels.

use candle_core::Tensor;
use wan_model::vae::Half;

use crate::cancel::Cancel;
use crate::denoise::reencode::Reencode;
use crate::error::Result;
use crate::inputs::conditions::Conditions;
use crate::latents::LATENT_FRAME_AXIS;
use crate::model::Model;
use crate::request::precision::Format;

/// Axis of the frames in pixels, `[1, 3, T, H, W]`.
const PIXEL_FRAME_AXIS: usize = 2;

impl Reencode for Model {
    fn reencode(&self, latents: &Tensor, cancel: &Cancel) -> Result<Tensor> {
        let vae = self.vae(Format::F32)?;
        let raw = vae.denormalise(latents)?;
        let (mut decoder, mut pixels) = (vae.decoder(), Vec::new());
        let held = vae.hold(Half::Decoder)?;
        for frame in 0..raw.dim(LATENT_FRAME_AXIS)? {
            let frame = raw.narrow(LATENT_FRAME_AXIS, frame, 1)?;
            pixels.push(decoder.next_observed(&frame, &mut &*cancel)?.clamp(-1.0, 1.0)?);
        }
        drop(held);
        let pixels = Tensor::cat(&pixels, PIXEL_FRAME_AXIS)?;
        let _held = vae.hold(Half::Encoder)?;
        Conditions::clean_latents_of(vae, &pixels, cancel)
    }
}
