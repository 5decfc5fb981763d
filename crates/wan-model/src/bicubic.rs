//! Bicubic resizing by two matrix products, one over rows and one over columns.
//!
//! With antialiasing the kernel is stretched by the factor of reduction and its constant is -0.5;
//! without it is -0.75 and always four pixels wide. Both as PyTorch 2.15 (`interpolate(mode=
//! "bicubic")` with `antialias` set and not); the first is also Pillow's.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places and weights of a kernel, in f64"
)]

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::product::product;

/// Resizes pictures `[B,C,H,W]` to `height` by `width` pixels; f32. Values can leave the range of
/// the input.
pub(crate) fn resize(
    pictures: &Tensor,
    (height, width): (usize, usize),
    antialias: bool,
) -> Result<Tensor> {
    let (batch, channels, from_height, from_width) = pictures.dims4()?;
    let weights = |from: usize, to: usize| {
        let weights = if antialias { stretched(from, to) } else { four_taps(from, to) };
        Tensor::from_vec(weights, (to, from), pictures.device())
    };
    let (rows, columns) = (weights(from_height, height)?, weights(from_width, width)?);
    let pictures = pictures.to_dtype(DType::F32)?.contiguous()?;
    // All pictures and colours share the matrix.
    let shared = |matrix: &Tensor| matrix.broadcast_left((batch, channels));
    let narrowed = product(&pictures, &shared(&columns.t()?.contiguous()?)?)?; // [B,C,H,width]
    Ok(product(&shared(&rows)?, &narrowed)?) // [B,C,height,width]
}

/// The kernel with constant `a` at distance `x`.
fn cubic(x: f64, a: f64) -> f64 {
    match x.abs() {
        x if x < 1. => ((a + 2.) * x - (a + 3.)) * x * x + 1.,
        x if x < 2. => (((x - 5.) * x + 8.) * x - 4.) * a,
        _ => 0.,
    }
}

/// `[to, from]`, antialiased.
fn stretched(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.);
    let mut matrix = Vec::with_capacity(to * from);
    for out in 0..to {
        let centre = scale * (out as f64 + 0.5);
        let start = (centre - 2. * stretch + 0.5).max(0.) as usize;
        let end = ((centre + 2. * stretch + 0.5) as usize).min(from);
        let weight = |pixel: usize| match pixel {
            pixel if (start..end).contains(&pixel) => {
                cubic((pixel as f64 - centre + 0.5) / stretch, -0.5)
            }
            _ => 0.,
        };
        let sum: f64 = (start..end).map(weight).sum();
        matrix.extend((0..from).map(|pixel| (weight(pixel) / sum) as f32));
    }
    matrix
}

/// `[to, from]`, four pixels each; a pixel beyond the edge counts as the edge pixel.
fn four_taps(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let mut matrix = vec![0f32; to * from];
    for (out, row) in matrix.chunks_mut(from).enumerate() {
        let place = scale * (out as f64 + 0.5) - 0.5;
        for tap in -1..=2 {
            let pixel = place.floor() + f64::from(tap);
            let weight = cubic(place - pixel, -0.75) as f32;
            row[pixel.clamp(0., (from - 1) as f64) as usize] += weight;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{distance, noise, numbers};
    use candle_core::Device;

    #[test]
    fn weights_by_hand() {
        // Half the size: centres between pixels, distances 1/4, 3/4, 5/4, 7/4 of the stretched
        // kernel: 0.8671875, 0.2265625, -0.0703125, -0.0234375, twice each, of a sum of 2.
        let row = &stretched(16, 8)[3 * 16..][..16];
        let expected = [-0.011_718_75, -0.035_156_25, 0.113_281_25, 0.433_593_75];
        assert_eq!(row[3..7], expected);
        assert!(row[..3].iter().chain(&row[11..]).all(|weight| *weight == 0.));
        // Without antialiasing the same place reads four pixels: -0.09375, 0.59375.
        let row = &four_taps(16, 8)[3 * 16..][..16];
        assert_eq!(row[5..9], [-0.093_75, 0.593_75, 0.593_75, -0.093_75]);
    }

    #[test]
    fn antialiased_sizes_equal_pillows() {
        let picture =
            (0..7 * 9).map(|i| (i / 9, i % 9)).map(|(y, x)| (x * x + 3 * y * x + 2 * y) % 7);
        let picture: Vec<f32> = picture.map(|number| number as f32).collect();
        let picture = Tensor::from_vec(picture, (1, 1, 7, 9), &Device::Cpu).unwrap();
        let smaller = numbers(&resize(&picture, (3, 4), true).unwrap());
        let wider = numbers(&resize(&picture, (5, 12), true).unwrap());
        // What Pillow's `Image.resize(size, Image.BICUBIC)` made of it as an image of mode F.
        let expected = [
            3.261_691, 3.897_721, 1.737_026, 2.508_488, 2.933_149, 1.907_925, 3.864_496, 3.547_072,
            3.050_221, 2.494_484, 2.677_824, 3.197_577,
        ];
        let row = [
            0.363_761, 1.664_645, 3.333_779, 4.249_121, 3.476_764, 2.368_74, 2.236_809, 2.513_913,
            0.576_685, 0.188_477, 1.258_812, 2.670_946,
        ];
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-6);
        assert!(close(&smaller, &expected), "{smaller:?}");
        assert!(close(&wider, &row), "{wider:?}");
    }

    #[test]
    fn the_same_size_is_the_same_picture_and_grey_stays_grey() {
        let picture = noise(1, &[2, 3, 5, 7]);
        let grey = picture.ones_like().unwrap();
        for antialias in [true, false] {
            assert!(distance(&resize(&picture, (5, 7), antialias).unwrap(), &picture) < 1e-6);
            let resized = resize(&grey, (11, 3), antialias).unwrap();
            assert!(distance(&resized, &resized.ones_like().unwrap()) < 1e-6);
        }
    }
}
