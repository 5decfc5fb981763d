//! Shape of a Wan VAE, in the form of diffusers' `config.json` (diffusers 0.42.1,
//! `AutoencoderKLWan`).

use serde::{Deserialize, Serialize};

use wan_border::numbers::{Layers, Patch, Width};

use crate::config::in_range;
use crate::error::{Error, Result};

/// Most levels of an encoder.
const LEVELS_MAX: usize = 8;

/// `config.json` of a VAE folder. Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaeConfig {
    /// Channels at full resolution.
    pub base_dim: usize,
    /// Channels of the decoder at full resolution, if other than those of the encoder (Wan 2.2).
    #[serde(default)]
    pub decoder_base_dim: Option<usize>,
    /// Latent channels.
    pub z_dim: usize,
    /// Channels of each level, in units of `base_dim`.
    pub dim_mult: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Scales with attention, beside the middle block; empty in every published VAE.
    #[serde(default)]
    pub attn_scales: Vec<f64>,
    /// For each step down between levels, whether it halves the frames too (diffusers' spelling).
    pub temperal_downsample: Vec<bool>,
    /// Mean of each latent channel over the training set.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f64>,
    /// Whether levels have parameter-free shortcuts (Wan 2.2).
    #[serde(default)]
    pub is_residual: bool,
    /// Input channels of the encoder: 3 colours times the pixels of a patch.
    #[serde(default = "rgb")]
    pub in_channels: usize,
    /// Output channels of the decoder: 3 colours times the pixels of a patch.
    #[serde(default = "rgb")]
    pub out_channels: usize,
    /// Pixel frames per latent frame, except for the first, which has one.
    #[serde(default = "four")]
    pub scale_factor_temporal: usize,
    /// Pixel rows (and columns) per latent row.
    #[serde(default = "eight")]
    pub scale_factor_spatial: usize,
    /// Side of the pixel patches that are folded into channels (Wan 2.2).
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

    /// The Wan 2.2 VAE, of TI2V-5B. Source: diffusers 0.42.1
    /// `scripts/convert_wan_to_diffusers.py`, `vae22_diffusers_config`.
    pub fn wan_2_2() -> Self {
        Self {
            base_dim: 160,
            decoder_base_dim: Some(256),
            z_dim: 48,
            latents_mean: vec![
                -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382,
                0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207,
                -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109,
                0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
                -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573,
                -0.0548, -0.1681, -0.0667,
            ],
            latents_std: vec![
                0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344,
                0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804,
                0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999,
                0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
                0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
            ],
            is_residual: true,
            in_channels: 12,
            out_channels: 12,
            scale_factor_spatial: 16,
            patch_size: Some(2),
            ..Self::wan_2_1()
        }
    }

    /// Side of the pixel patches that are folded into channels; 1 without folding.
    pub fn patch_side(&self) -> usize {
        self.patch_size.unwrap_or(1)
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
        if !self.attn_scales.is_empty() {
            return refuse("attn_scales: no published VAE has any, nor has this one");
        }
        if self.dim_mult.is_empty() || self.temperal_downsample.len() + 1 != self.dim_mult.len() {
            return refuse("temperal_downsample: one entry between each two of dim_mult");
        }
        if self.dim_mult.len() > LEVELS_MAX {
            let found = self.dim_mult.len();
            return refuse(&format!("dim_mult: {found} levels, {LEVELS_MAX} are the most"));
        }
        self.check_ranges()?;
        let halved = self.temperal_downsample.iter().filter(|halved| **halved).count();
        let p = self.patch_side();
        let factors = (1 << halved, p << self.temperal_downsample.len());
        if factors != (self.scale_factor_temporal, self.scale_factor_spatial) {
            return refuse("scale_factor_temporal, scale_factor_spatial: not what the levels give");
        }
        let channels = [self.in_channels, self.out_channels];
        if channels.iter().any(|channels| !channels.is_multiple_of(p * p)) {
            return refuse("in_channels, out_channels: a multiple of the pixels of a patch");
        }
        if [self.latents_mean.len(), self.latents_std.len()] != [self.z_dim; 2] {
            return refuse("latents_mean, latents_std: one number for each of z_dim channels");
        }
        Ok(())
    }

    /// So that no product of these numbers overflows.
    fn check_ranges(&self) -> Result<()> {
        let widths = [
            ("base_dim", self.base_dim),
            ("decoder_base_dim", self.decoder_base_dim.unwrap_or(1)),
            ("z_dim", self.z_dim),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
        ];
        widths.iter().try_for_each(|(field, width)| in_range(field, Width::new(*width)))?;
        self.dim_mult.iter().try_for_each(|times| in_range("dim_mult", Patch::new(*times)))?;
        in_range("patch_size", Patch::new(self.patch_side()))?;
        in_range("num_res_blocks", Layers::new(self.num_res_blocks))
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
    fn patches_count_in_the_factor_and_in_the_channels() {
        let config = VaeConfig::wan_2_2();
        config.check().unwrap();
        assert_eq!((config.latents_mean.len(), config.latents_std.len()), (48, 48));
        let pixels = VaeConfig { in_channels: 3, ..config.clone() };
        assert!(pixels.check().unwrap_err().to_string().contains("in_channels"));
        let eight = VaeConfig { scale_factor_spatial: 8, ..config };
        assert!(eight.check().unwrap_err().to_string().contains("scale_factor_spatial"));
    }
}
