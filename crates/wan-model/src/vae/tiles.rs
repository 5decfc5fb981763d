//! A picture in overlapping tiles, each coded on its own, the overlaps blended.
//!
//! Every tile streams through with a memory of its own, as if it were a video. Going on from top
//! left, the first rows of a tile fade in from the last rows of the tile above, its first columns
//! from the tile to the left, both already blended; then what the next tiles will bring is cut
//! off. Source: diffusers 0.42.1 `AutoencoderKLWan.tiled_encode`, `tiled_decode`, `blend_v`,
//! `blend_h`.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::vae::VaeConfig;

/// How pictures are cut, for [`encode_tiled`](crate::vae::Vae::encode_tiled) and
/// [`decode_tiled`](crate::vae::Vae::decode_tiled). One that fits a tile is not cut.
///
/// Both numbers are multiples of the VAE's factor in space. A decoder counts them in pixels. The
/// encoder of a VAE with patches (Wan 2.2) counts them in patches, as diffusers does, so that its
/// tiles are twice as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile.
    pub min: usize,
    /// From one tile to the next, at most `min`; the difference is blended.
    pub stride: usize,
}

impl Tiling {
    fn check(self, config: &VaeConfig) -> Result<()> {
        let (Self { min, stride }, factor) = (self, config.scale_factor_spatial);
        if stride == 0 || stride > min || min % factor != 0 || stride % factor != 0 {
            let expected = format!("multiples of {factor}, the stride not above the side");
            return Err(Error::input("tiling", expected, (min, stride)));
        }
        Ok(())
    }
}

impl Default for Tiling {
    /// diffusers': tiles of 256 every 192.
    fn default() -> Self {
        Self { min: 256, stride: 192 }
    }
}

/// A side and a stride on one side of the coder.
#[derive(Clone, Copy)]
struct Steps {
    side: usize,
    stride: usize,
}

impl Steps {
    fn new(tiling: Tiling, per_step: usize) -> Self {
        Self { side: tiling.min / per_step, stride: tiling.stride / per_step }
    }
}

/// Where the tiles of a picture lie, before and after the coder.
pub(crate) struct Tiles {
    before: Steps,
    after: Steps,
    rows: usize,
    columns: usize,
}

impl Tiles {
    /// Tiles of patches `[B,T,C,height,width]` to encode.
    pub(crate) fn to_encode(
        tiling: Tiling,
        config: &VaeConfig,
        (height, width): (usize, usize),
    ) -> Result<Self> {
        tiling.check(config)?;
        let pixels = config.patch_side();
        if height.max(width) * pixels <= tiling.min {
            return Ok(Self::WHOLE);
        }
        let factor = config.scale_factor_spatial / pixels;
        Ok(Self::over((height, width), Steps::new(tiling, 1), Steps::new(tiling, factor)))
    }

    /// Tiles of latents `[B,F,z,height,width]` to decode.
    pub(crate) fn to_decode(
        tiling: Tiling,
        config: &VaeConfig,
        (height, width): (usize, usize),
    ) -> Result<Self> {
        tiling.check(config)?;
        let before = Steps::new(tiling, config.scale_factor_spatial);
        if height.max(width) <= before.side {
            return Ok(Self::WHOLE);
        }
        Ok(Self::over((height, width), before, Steps::new(tiling, config.patch_side())))
    }

    /// One tile, whatever the size.
    const WHOLE: Self = {
        let all = Steps { side: usize::MAX, stride: usize::MAX };
        Self { before: all, after: all, rows: 1, columns: 1 }
    };

    fn over((height, width): (usize, usize), before: Steps, after: Steps) -> Self {
        let [rows, columns] = [height, width].map(|size| size.div_ceil(before.stride));
        Self { before, after, rows, columns }
    }

    /// Number of tiles.
    pub(crate) fn count(&self) -> usize {
        self.rows * self.columns
    }

    /// Tile `number` of `[B,T,C,H,W]`, counted row by row.
    pub(crate) fn cut(&self, picture: &Tensor, number: usize) -> Result<Tensor> {
        let Steps { side, stride } = self.before;
        let mut tile = picture.clone();
        for (dim, place) in [(3, number / self.columns), (4, number % self.columns)] {
            let (size, start) = (tile.dim(dim)?, place * stride);
            tile = tile.narrow(dim, start, side.min(size - start))?;
        }
        Ok(tile.contiguous()?)
    }

    /// What the coder made of all tiles, `[B,T,C,h,w]` each, to one picture `[B,T,C,H,W]`.
    pub(crate) fn join(&self, mut tiles: Vec<Tensor>) -> Result<Tensor> {
        let Steps { side, stride } = self.after;
        let overlap = side - stride;
        let mut rows = Vec::with_capacity(self.rows);
        for row in 0..self.rows {
            let mut kept = Vec::with_capacity(self.columns);
            for column in 0..self.columns {
                let number = row * self.columns + column;
                if row > 0 {
                    let above = &tiles[number - self.columns];
                    tiles[number] = fade(above, &tiles[number], 3, overlap)?;
                }
                if column > 0 {
                    tiles[number] = fade(&tiles[number - 1], &tiles[number], 4, overlap)?;
                }
                let mut tile = tiles[number].clone();
                for dim in [3, 4] {
                    tile = tile.narrow(dim, 0, stride.min(tile.dim(dim)?))?;
                }
                kept.push(tile);
            }
            rows.push(Tensor::cat(&kept, 4)?);
        }
        Ok(Tensor::cat(&rows, 3)?)
    }
}

/// `second` with its start along `dim` faded in from the end of `first`.
fn fade(first: &Tensor, second: &Tensor, dim: usize, overlap: usize) -> Result<Tensor> {
    let (before, size) = (first.dim(dim)?, second.dim(dim)?);
    let extent = overlap.min(before).min(size);
    if extent == 0 {
        return Ok(second.clone());
    }
    let mut shape = vec![1; 5];
    shape[dim] = extent;
    let share = |place: usize| (place as f64 / extent as f64) as f32;
    let weights = |weight: &dyn Fn(usize) -> f32| {
        let weights: Vec<f32> = (0..extent).map(weight).collect();
        Tensor::from_vec(weights, shape.as_slice(), second.device())?.to_dtype(second.dtype())
    };
    let going = first.narrow(dim, before - extent, extent)?;
    let going = going.broadcast_mul(&weights(&|place| 1. - share(place))?)?;
    let coming = second.narrow(dim, 0, extent)?.broadcast_mul(&weights(&share)?)?;
    let rest = second.narrow(dim, extent, size - extent)?;
    Ok(Tensor::cat(&[&(going + coming)?, &rest], dim)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, numbers};
    use candle_core::Device;

    #[test]
    fn a_fade_by_hand() {
        let line = |numbers: &[f32]| {
            Tensor::new(numbers, &Device::Cpu)
                .unwrap()
                .reshape((1, 1, 1, 1, numbers.len()))
                .unwrap()
        };
        let (first, second) = (line(&[9., 0., 4.]), line(&[2., 8., 6.]));
        assert_eq!(numbers(&fade(&first, &second, 4, 2).unwrap()), [0., 6., 6.]);
        assert_eq!(numbers(&fade(&first, &second, 4, 0).unwrap()), [2., 8., 6.]);
        assert_eq!(numbers(&fade(&line(&[4.]), &second, 4, 2).unwrap()), [4., 8., 6.]);
    }

    #[test]
    fn tiles_of_a_coder_that_does_nothing_join_to_the_picture() {
        let config = VaeConfig { scale_factor_spatial: 1, ..VaeConfig::wan_2_1() };
        for (height, width) in [(7, 11), (4, 4), (5, 3), (8, 13)] {
            let picture = noise(1, &[1, 2, 3, height, width]);
            for stride in 1..=4 {
                let tiling = Tiling { min: 4, stride };
                let tiles = Tiles::to_decode(tiling, &config, (height, width)).unwrap();
                let cut = (0..tiles.count()).map(|number| tiles.cut(&picture, number).unwrap());
                let joined = tiles.join(cut.collect()).unwrap();
                assert_eq!(joined.dims(), picture.dims());
                let (joined, picture) = (numbers(&joined), numbers(&picture));
                let close = joined.iter().zip(&picture).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(close, "{height}x{width} every {stride}");
            }
        }
    }

    #[test]
    fn tilings_that_do_not_fit_the_factor_are_refused() {
        let config = VaeConfig::wan_2_1();
        for (min, stride) in [(48, 0), (48, 56), (44, 32), (48, 30)] {
            let tiles = Tiles::to_decode(Tiling { min, stride }, &config, (9, 9));
            assert!(tiles.err().unwrap().to_string().contains("multiples of 8"), "{min} {stride}");
        }
    }
}
