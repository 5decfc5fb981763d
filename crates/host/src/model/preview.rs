//! Latents as they are while a run goes on, to be looked at.

use candle_core::{Device, Tensor};
use wan_media::{VideoFrames, spread};
use wan_model::vae::VaeConfig;

use super::Model;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::latents::LATENT_FRAME_AXIS;
use crate::output::decoding::{Decoding, FrameDecoder, frames_of};
use crate::request::precision::Format;

/// Frames that are shown at most.
const FRAMES_MAX: usize = 8;

/// Parameters of a VAE that is small enough to decode again and again. The published ones have 127
/// and 705 million.
const SMALL_VAE_PARAMETERS: usize = 16_000_000;

impl Model {
    /// Whether [`preview`](Self::preview) can show latents of this model: there are published factors
    /// for its VAE, or the VAE has at most 16 million parameters.
    ///
    /// # Errors
    /// If not, and if the VAE's file cannot be read.
    pub fn can_preview(&self) -> Result<()> {
        let weights = self.checkpoint().weights("vae")?;
        let elements = |name: &&str| weights.shape(name).map(|s| s.iter().product::<usize>());
        let parameters: usize = weights.names().iter().filter_map(elements).sum();
        check(self.checkpoint().vae_config()?, parameters)
    }

    /// A picture of latents `[1, C, F, H, W]`, normalised as the model has them, noisy ones too: at most
    /// eight frames, evenly spaced. Where there are published factors
    /// ([`VaeConfig::latent_rgb`](wan_model::vae::VaeConfig::latent_rgb)) it has a pixel for each of the
    /// latents; else they are decoded, as if a video began with them.
    ///
    /// # Errors
    /// If the latents do not fit the VAE, or the VAE cannot be loaded.
    pub fn preview(&self, latents: &Tensor) -> Result<VideoFrames> {
        let Some(rgb) = self.checkpoint().vae_config()?.latent_rgb() else {
            return self.decoded_preview(latents);
        };
        let frames = latents.dims().get(LATENT_FRAME_AXIS).copied().unwrap_or(0);
        let shown = spread(frames, FRAMES_MAX).into_iter();
        let shown = shown.map(|frame| latents.narrow(LATENT_FRAME_AXIS, frame, 1));
        let shown = shown.collect::<candle_core::Result<Vec<_>>>()?;
        let shown = Tensor::cat(&shown, LATENT_FRAME_AXIS)?.to_device(&Device::Cpu)?;
        frames_of(&rgb.picture(&shown)?)
    }

    fn decoded_preview(&self, latents: &Tensor) -> Result<VideoFrames> {
        let vae = self.vae(Format::F32)?;
        let decoder = FrameDecoder::new(vae, self.device().clone(), None, Cancel::default());
        let frames = Decoding::by(decoder.holding(vae).unchecked(), latents)?.collect_frames()?;
        let shown = spread(frames.frames(), FRAMES_MAX);
        let rgb = shown.iter().flat_map(|frame| frames.frame(*frame)).copied().collect();
        Ok(VideoFrames::new(frames.width(), frames.height(), rgb)?)
    }
}

/// Whether latents of a VAE of so many parameters can be shown.
fn check(config: &VaeConfig, parameters: usize) -> Result<()> {
    if config.latent_rgb().is_some() || parameters <= SMALL_VAE_PARAMETERS {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "there are no published factors by which latents of this VAE can be shown (there are for \
         Wan 2.1 and 2.2), and with {} million parameters it is too large to decode after each \
         round; {} million are the most",
        parameters / 1_000_000,
        SMALL_VAE_PARAMETERS / 1_000_000
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vae_is_shown_if_it_is_known_or_small() {
        let known = [VaeConfig::wan_2_1(), VaeConfig::wan_2_2()];
        known.iter().for_each(|config| check(config, 700_000_000).unwrap());
        let other = VaeConfig { latents_std: vec![1.0; 16], ..VaeConfig::wan_2_1() };
        check(&other, SMALL_VAE_PARAMETERS).unwrap();
        let error = check(&other, 127_000_000).unwrap_err().to_string();
        assert!(error.contains("127 million"), "{error}");
    }
}
