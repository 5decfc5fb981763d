//! How near a clip is to a reference clip: PSNR, SSIM and MS-SSIM, frame by frame.
//!
//! SSIM: Wang et al. 2004, on luma (BT.601), Gaussian window of 11 pixels, sigma 1.5, the window
//! wholly inside the picture. MS-SSIM: Wang et al. 2003, five scales and their weights; a picture
//! too small for five (176 pixels) has as many as fit, their weights scaled to add up to 1.

use serde::{Deserialize, Serialize};
use wan_media::{VideoFrames, psnr};

/// Nearness of a clip to its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// PSNR over the clip, dB; 100 where equal.
    pub psnr: f64,
    /// PSNR of each frame, dB.
    pub frame_psnr: Vec<f64>,
    /// SSIM of each frame, up to 1.
    pub frame_ssim: Vec<f64>,
    /// MS-SSIM of each frame, up to 1.
    pub frame_ms_ssim: Vec<f64>,
}

/// PSNR of equal clips; JSON has no infinity.
const EQUAL: f64 = 100.0;

const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);
const SCALE_WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

impl Quality {
    /// Compares two clips of equal size.
    pub fn of(clip: &VideoFrames, reference: &VideoFrames) -> Self {
        let frames = clip.frames().min(reference.frames());
        let size = (clip.width(), clip.height());
        let mut quality = Self {
            psnr: psnr(clip.rgb(), reference.rgb()).min(EQUAL),
            frame_psnr: Vec::with_capacity(frames),
            frame_ssim: Vec::with_capacity(frames),
            frame_ms_ssim: Vec::with_capacity(frames),
        };
        for f in 0..frames {
            let (rgb, other) = (clip.frame(f), reference.frame(f));
            let (a, b) = (Luma::of(rgb, size), Luma::of(other, size));
            quality.frame_psnr.push(psnr(rgb, other).min(EQUAL));
            quality.frame_ssim.push(similarity(&a, &b).0);
            quality.frame_ms_ssim.push(ms_ssim(a, b));
        }
        quality
    }
}

/// Brightness, row by row.
struct Luma {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Luma {
    fn of(rgb: &[u8], (width, height): (usize, usize)) -> Self {
        let luma =
            |p: &[u8]| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
        Self { width, height, values: rgb.chunks_exact(3).map(luma).collect() }
    }

    fn map2(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| f(*a, *b)).collect();
        Self { values, ..*self }
    }

    /// Weighted means over all windows that lie wholly inside.
    fn blurred(&self, kernel: &[f64]) -> Self {
        let (width, height) = (self.width + 1 - kernel.len(), self.height + 1 - kernel.len());
        let weighted = |start: usize, stride: usize, of: &[f64]| -> f64 {
            kernel.iter().enumerate().map(|(i, k)| k * of[start + i * stride]).sum()
        };
        let rows: Vec<f64> = (0..self.height)
            .flat_map(|y| (0..width).map(move |x| y * self.width + x))
            .map(|start| weighted(start, 1, &self.values))
            .collect();
        let values = (0..height * width).map(|start| weighted(start, width, &rows)).collect();
        Self { width, height, values }
    }

    /// Means of two by two pixels.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let at = |x: usize, y: usize| self.values[y * self.width + x];
        let mean = |x, y| (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1)) / 4.0;
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (2 * x, 2 * y)));
        Self { width, height, values: values.map(|(x, y)| mean(x, y)).collect() }
    }
}

/// Mean of luminance times contrast-structure (SSIM), and of contrast-structure alone.
fn similarity(a: &Luma, b: &Luma) -> (f64, f64) {
    let window = WINDOW.min(a.width).min(a.height);
    let kernel = gaussian(window);
    let mean = |l: &Luma| l.blurred(&kernel);
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &Luma, y: &Luma| mean(&x.map2(y, |x, y| x * y));
    let (square_a, square_b, cross) = (product(a, a), product(b, b), product(a, b));
    let (mut ssim, mut structure) = (0.0, 0.0);
    for i in 0..mean_a.values.len() {
        let (ma, mb) = (mean_a.values[i], mean_b.values[i]);
        let variances = square_a.values[i] - ma * ma + square_b.values[i] - mb * mb;
        let covariance = cross.values[i] - ma * mb;
        let cs = (2.0 * covariance + C2) / (variances + C2);
        structure += cs;
        ssim += cs * (2.0 * ma * mb + C1) / (ma * ma + mb * mb + C1);
    }
    let count = mean_a.values.len() as f64;
    (ssim / count, structure / count)
}

fn gaussian(window: usize) -> Vec<f64> {
    let middle = (window - 1) as f64 / 2.0;
    let weight = |i: usize| (-(i as f64 - middle).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let weights: Vec<f64> = (0..window).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

fn ms_ssim(mut a: Luma, mut b: Luma) -> f64 {
    let side = a.width.min(a.height);
    let fits = |scale: &usize| side >> scale >= WINDOW;
    let scales = (0..SCALE_WEIGHTS.len()).take_while(fits).count().max(1);
    let total: f64 = SCALE_WEIGHTS[..scales].iter().sum();
    let mut product = 1.0;
    for (scale, weight) in SCALE_WEIGHTS[..scales].iter().enumerate() {
        let (ssim, structure) = similarity(&a, &b);
        // Only the coarsest scale weighs luminance. A negative correlation has no root.
        let value = if scale + 1 == scales { ssim } else { structure };
        product *= value.max(0.0).powf(weight / total);
        (a, b) = (a.halved(), b.halved());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gradient with a square, and the same shifted in brightness or blurred by noise.
    fn clip(change: impl Fn(usize, u8) -> u8) -> VideoFrames {
        let pixel = |i: usize| {
            let (x, y) = (i % 48, i / 48);
            let square = (12..30).contains(&x) && (10..34).contains(&y);
            if square { 200 } else { (2 * x + y) as u8 }
        };
        let rgb = (0..48 * 48).flat_map(|i| [change(i, pixel(i)); 3]).collect();
        VideoFrames::new(48, 48, rgb).unwrap()
    }

    #[test]
    fn equal_clips_are_equal() {
        let quality = Quality::of(&clip(|_, v| v), &clip(|_, v| v));
        assert_eq!((quality.psnr, quality.frame_psnr[0]), (100.0, 100.0));
        assert!((quality.frame_ssim[0] - 1.0).abs() < 1e-12);
        assert!((quality.frame_ms_ssim[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn brightness_costs_psnr_and_noise_costs_structure() {
        let plain = clip(|_, v| v);
        let brighter = Quality::of(&clip(|_, v| v + 10), &plain);
        let noisy = Quality::of(&clip(|i, v| v + if i % 2 == 0 { 10 } else { 0 }), &plain);
        assert!((brighter.psnr - 28.131).abs() < 1e-3, "{}", brighter.psnr);
        assert!(noisy.psnr > brighter.psnr);
        assert!(noisy.frame_ssim[0] < brighter.frame_ssim[0] - 0.1);
    }

    #[test]
    fn a_window_is_weighted_as_the_paper_says() {
        let kernel = gaussian(11);
        assert!((kernel.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // exp(-1 / (2 * 1.5^2)) of the middle.
        assert!((kernel[4] / kernel[5] - 0.800_737_402_916_808).abs() < 1e-12);
    }
}
