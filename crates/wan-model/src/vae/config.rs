//! Shape of a Wan VAE, as diffusers writes it to `config.json` (diffusers 0.42.1,
//! `AutoencoderKLWan`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `config.json` of a VAE folder. Fields diffusers writes beside these are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaeConfig {
    /// Channels at full resolution.
    pub base_dim: usize,
    /// The decoder's, where it is wider than the encoder (Wan 2.2).
    #[serde(default)]
    pub decoder_base_dim: Option<usize>,
    /// Latent channels.
    pub z_dim: usize,
    /// Channels of each level, in units of `base_dim`.
    pub dim_mult: Vec<usize>,
    /// Residual blocks of a level; the decoder has one more.
    pub num_res_blocks: usize,
    /// Scales with attention beside the middle block's; none in any published VAE.
    #[serde(default)]
    pub attn_scales: Vec<f64>,
    /// Which steps down between levels halve time too (diffusers' spelling).
    pub temperal_downsample: Vec<bool>,
    /// Mean of each latent channel over the training set.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f64>,
    /// Whether levels have parameter-free shortcuts (Wan 2.2).
    #[serde(default)]
    pub is_residual: bool,
    /// Pixel channels going in.
    #[serde(default = "rgb")]
    pub in_channels: usize,
    /// Pixel channels coming out.
    #[serde(default = "rgb")]
    pub out_channels: usize,
    /// Pixel frames per latent frame, but for the first, which stands alone.
    #[serde(default = "four")]
    pub scale_factor_temporal: usize,
    /// Pixel rows (and columns) per latent row.
    #[serde(default = "eight")]
    pub scale_factor_spatial: usize,
    /// Side of the pixel patches folded into channels first (Wan 2.2).
    #[serde(default)]
    pub patch_size: Option<usize>,
}

fn rgb() -> usize {
    3
}

fn four() -> usize {
    4
}

fn eight() -> usize {
    8
}

impl VaeConfig {
    /// The Wan 2.1 VAE, which SkyReels-V2 and Wan 2.2 A14B use too.
    pub fn wan_2_1() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134,
                -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526,
                2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916,
            ],
            is_residual: false,
            in_channels: rgb(),
            out_channels: rgb(),
            scale_factor_temporal: four(),
            scale_factor_spatial: eight(),
            patch_size: None,
        }
    }

    /// Latent frames of a video of `frames` frames: `(frames - 1) / 4 + 1`.
    pub fn latent_frames(&self, frames: usize) -> usize {
        (frames.max(1) - 1) / self.scale_factor_temporal + 1
    }

    /// Frames of a video of `latent_frames` latent frames: `4 (latent_frames - 1) + 1`.
    pub fn frames(&self, latent_frames: usize) -> usize {
        (latent_frames.max(1) - 1) * self.scale_factor_temporal + 1
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        if self.is_residual || self.patch_size.is_some() || self.decoder_base_dim.is_some() {
            return refuse("is_residual: the Wan 2.2 VAE is not supported yet");
        }
        if !self.attn_scales.is_empty() {
            return refuse("attn_scales: no published VAE has any, nor has this one");
        }
        if self.dim_mult.is_empty() || self.temperal_downsample.len() + 1 != self.dim_mult.len() {
            return refuse("temperal_downsample: one entry between each two of dim_mult");
        }
        let halved = self.temperal_downsample.iter().filter(|halved| **halved).count();
        let factors = (1 << halved, 1 << self.temperal_downsample.len());
        if factors != (self.scale_factor_temporal, self.scale_factor_spatial) {
            return refuse("scale_factor_temporal, scale_factor_spatial: not what the levels give");
        }
        if [self.latents_mean.len(), self.latents_std.len()] != [self.z_dim; 2] {
            return refuse("latents_mean, latents_std: one number for each of z_dim channels");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_and_frame_counts() {
        let config = VaeConfig::wan_2_1();
        config.check().unwrap();
        let odd = VaeConfig { scale_factor_temporal: 2, ..config.clone() };
        assert!(odd.check().unwrap_err().to_string().contains("scale_factor_temporal"));
        assert_eq!([1, 5, 33, 81].map(|frames| config.latent_frames(frames)), [1, 2, 9, 21]);
        assert_eq!([1, 2, 9, 21].map(|latents| config.frames(latents)), [1, 5, 33, 81]);
    }

    #[test]
    fn a_residual_vae_is_refused_by_name() {
        let config = VaeConfig { is_residual: true, ..VaeConfig::wan_2_1() };
        assert!(config.check().unwrap_err().to_string().contains("is_residual"));
    }
}
