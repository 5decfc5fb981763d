//! Latents looked at without a decoder: every channel adds its share of red, green and blue.
//!
//! The factors were fitted to what the decoders give, and published. They are for normalised
//! latents, those that a transformer sees. Source: Comfy-Org/ComfyUI
//! 75399d78ddcc01f46f9b94521b29f1fe8a90ed53, `comfy/latent_formats.py`: `Wan21`, `Wan22`;
//! `latent_preview.py`: `Latent2RGBPreviewer`, which is given latents before `process_out`.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::vae::config::VaeConfig;

/// What each channel of a VAE's latents adds to red, green and blue, where pixels are in [-1,1].
#[derive(Clone, Copy, Debug)]
pub struct LatentRgb {
    factors: &'static [[f32; 3]],
    bias: [f32; 3],
}

impl VaeConfig {
    /// The factors for latents of this VAE; none where none are published. A VAE is known by the
    /// statistics of its latents.
    pub fn latent_rgb(&self) -> Option<LatentRgb> {
        let has_latents_of = |other: &Self| {
            (&self.latents_mean, &self.latents_std) == (&other.latents_mean, &other.latents_std)
        };
        if has_latents_of(&Self::wan_2_1()) {
            return Some(LatentRgb { factors: WAN_2_1, bias: [-0.1835, -0.0868, -0.336] });
        }
        has_latents_of(&Self::wan_2_2())
            .then_some(LatentRgb { factors: WAN_2_2, bias: [0.0317, -0.0878, -0.1388] })
    }
}

impl LatentRgb {
    /// Normalised latents `[B,z,F,h,w]` to a picture `[B,3,F,h,w]`, a pixel for each of theirs, of
    /// numbers in about [-1,1].
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
    pub fn picture(&self, latents: &Tensor) -> Result<Tensor> {
        let z = self.factors.len();
        match *latents.dims() {
            [_, channels, _, _, _] if channels == z => {}
            _ => return Err(Error::input("latents", format!("[B,{z},F,h,w]"), latents.dims())),
        }
        let colour = |number: usize| {
            let factors: Vec<f32> = self.factors.iter().map(|factors| factors[number]).collect();
            let factors = Tensor::from_vec(factors, (1, z, 1, 1, 1), latents.device())?;
            let factors = factors.to_dtype(latents.dtype())?;
            latents
                .broadcast_mul(&factors)?
                .sum_keepdim(1)?
                .affine(1., f64::from(self.bias[number]))
        };
        let colours = (0..3).map(colour).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&colours, 1)?)
    }
}

/// Red, green and blue of each channel.
const WAN_2_1: &[[f32; 3]] = &[
    [-0.1299, -0.1692, 0.2932],
    [0.0671, 0.0406, 0.0442],
    [0.3568, 0.2548, 0.1747],
    [0.0372, 0.2344, 0.1420],
    [0.0313, 0.0189, -0.0328],
    [0.0296, -0.0956, -0.0665],
    [-0.3477, -0.4059, -0.2925],
    [0.0166, 0.1902, 0.1975],
    [-0.0412, 0.0267, -0.1364],
    [-0.1293, 0.0740, 0.1636],
    [0.0680, 0.3019, 0.1128],
    [0.0032, 0.0581, 0.0639],
    [-0.1251, 0.0927, 0.1699],
    [0.0060, -0.0633, 0.0005],
    [0.3477, 0.2275, 0.2950],
    [0.1984, 0.0913, 0.1861],
];

/// Red, green and blue of each channel.
const WAN_2_2: &[[f32; 3]] = &[
    [0.0119, 0.0103, 0.0046],
    [-0.1062, -0.0504, 0.0165],
    [0.0140, 0.0409, 0.0491],
    [-0.0813, -0.0677, 0.0607],
    [0.0656, 0.0851, 0.0808],
    [0.0264, 0.0463, 0.0912],
    [0.0295, 0.0326, 0.0590],
    [-0.0244, -0.0270, 0.0025],
    [0.0443, -0.0102, 0.0288],
    [-0.0465, -0.0090, -0.0205],
    [0.0359, 0.0236, 0.0082],
    [-0.0776, 0.0854, 0.1048],
    [0.0564, 0.0264, 0.0561],
    [0.0006, 0.0594, 0.0418],
    [-0.0319, -0.0542, -0.0637],
    [-0.0268, 0.0024, 0.0260],
    [0.0539, 0.0265, 0.0358],
    [-0.0359, -0.0312, -0.0287],
    [-0.0285, -0.1032, -0.1237],
    [0.1041, 0.0537, 0.0622],
    [-0.0086, -0.0374, -0.0051],
    [0.0390, 0.0670, 0.2863],
    [0.0069, 0.0144, 0.0082],
    [0.0006, -0.0167, 0.0079],
    [0.0313, -0.0574, -0.0232],
    [-0.1454, -0.0902, -0.0481],
    [0.0714, 0.0827, 0.0447],
    [-0.0304, -0.0574, -0.0196],
    [0.0401, 0.0384, 0.0204],
    [-0.0758, -0.0297, -0.0014],
    [0.0568, 0.1307, 0.1372],
    [-0.0055, -0.0310, -0.0380],
    [0.0239, -0.0305, 0.0325],
    [-0.0663, -0.0673, -0.0140],
    [-0.0416, -0.0047, -0.0023],
    [0.0166, 0.0112, -0.0093],
    [-0.0211, 0.0011, 0.0331],
    [0.1833, 0.1466, 0.2250],
    [-0.0368, 0.0370, 0.0295],
    [-0.3441, -0.3543, -0.2008],
    [-0.0479, -0.0489, -0.0420],
    [-0.0660, -0.0153, 0.0800],
    [-0.0101, 0.0068, 0.0156],
    [-0.0690, -0.0452, -0.0927],
    [-0.0145, 0.0041, 0.0015],
    [0.0421, 0.0451, 0.0373],
    [0.0504, -0.0483, -0.0356],
    [-0.0837, 0.0168, 0.0055],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use candle_core::Device;

    fn pixel(config: &VaeConfig, latents: &[f32]) -> Vec<f32> {
        let latents = Tensor::new(latents, &Device::Cpu).unwrap();
        let latents = latents.reshape((1, latents.elem_count(), 1, 1, 1)).unwrap();
        numbers(&config.latent_rgb().unwrap().picture(&latents).unwrap())
    }

    #[test]
    fn known_latents_have_known_pixels() {
        let (old, new) = (VaeConfig::wan_2_1(), VaeConfig::wan_2_2());
        let mut latents = [0.; 16];
        assert_eq!(pixel(&old, &latents), [-0.1835, -0.0868, -0.336]);
        // Twice the seventh channel, and the last one less.
        (latents[6], latents[15]) = (2., -1.);
        let by_hand = [-2. * 0.3477 - 0.1984 - 0.1835, -2. * 0.4059 - 0.0913 - 0.0868];
        let found = pixel(&old, &latents);
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert!((found[2] - (-2. * 0.2925 - 0.1861 - 0.336)).abs() < 1e-6);
        let mut latents = [0.; 48];
        latents[39] = 1.;
        let found = pixel(&new, &latents);
        let by_hand = [0.0317 - 0.3441, -0.0878 - 0.3543, -0.1388 - 0.2008];
        assert!(found.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn a_place_of_the_picture_is_that_of_the_latents() {
        let rgb = VaeConfig::wan_2_1().latent_rgb().unwrap();
        let mut latents = vec![0f32; 16 * 2 * 3 * 4];
        // Channel 2, frame 1, row 2, column 3.
        latents[((2 * 2 + 1) * 3 + 2) * 4 + 3] = 1.;
        let latents = Tensor::from_vec(latents, (1, 16, 2, 3, 4), &Device::Cpu).unwrap();
        let picture = rgb.picture(&latents).unwrap();
        assert_eq!(picture.dims(), [1, 3, 2, 3, 4]);
        let numbers = numbers(&picture);
        let is_lit = |at: &usize| (numbers[*at] - rgb.bias[at / 24]).abs() > 0.1;
        let lit: Vec<usize> = (0..numbers.len()).filter(is_lit).collect();
        assert_eq!(lit, [0, 1, 2].map(|colour| ((colour * 2 + 1) * 3 + 2) * 4 + 3));
        assert!(rgb.picture(&picture).is_err());
    }

    #[test]
    fn other_latents_have_no_factors() {
        let other = VaeConfig { latents_mean: vec![0.; 16], ..VaeConfig::wan_2_1() };
        assert!(other.latent_rgb().is_none());
        // With fewer layers the latents are the same.
        let light = VaeConfig { num_res_blocks: 1, ..VaeConfig::wan_2_2() };
        assert!(light.latent_rgb().is_some());
    }
}
