//! Tiling: a picture is cut into overlapping tiles, each is coded separately, and the overlaps are
//! blended.
//!
//! Every tile is a stream with its own memory, like a video. Starting at the top left, the first
//! rows of a tile are blended with the last rows of the tile above, and its first columns with
//! those of the tile to the left; both of these are blended already. Then the part that the next
//! tiles cover is cut off. Source: diffusers 0.42.1 `AutoencoderKLWan.tiled_encode`,
//! `tiled_decode`, `blend_v`, `blend_h`.
#![allow(clippy::cast_possible_truncation, reason = "weights of a seam, from f64")]

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::vae::config::VaeConfig;

/// Side and distance of tiles, for [`encode_tiled`](crate::vae::Vae::encode_tiled) and
/// [`decode_tiled`](crate::vae::Vae::decode_tiled). A picture that fits into one tile is not cut.
///
/// Both numbers are multiples of the VAE's factor in space. A decoder counts them in pixels. The
/// encoder of a VAE with patches (Wan 2.2) counts them in patches, as in diffusers, so its tiles
/// are twice as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile.
    pub min: usize,
    /// Distance from one tile to the next, at most `min`. The difference is blended.
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
    /// That of diffusers: tiles of 256, 192 apart.
    fn default() -> Self {
        Self { min: 256, stride: 192 }
    }
}

/// Side and stride in the units of the coder's input or output.
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

/// The tiles of a picture, before and after coding.
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

    /// One tile of any size.
    pub(crate) const WHOLE: Self = {
        let all = Steps { side: usize::MAX, stride: usize::MAX };
        Self { before: all, after: all, rows: 1, columns: 1 }
    };

    fn over((height, width): (usize, usize), before: Steps, after: Steps) -> Self {
        let [rows, columns] = [height, width].map(|size| size.div_ceil(before.stride));
        Self { before, after, rows, columns }
    }

    /// Rows and columns of each tile of a picture of so many.
    pub(crate) fn sizes(
        &self,
        (height, width): (usize, usize),
    ) -> impl Iterator<Item = (usize, usize)> {
        let Steps { side, stride } = self.before;
        let size = move |whole: usize, place: usize| side.min(whole - (place * stride).min(whole));
        let columns = self.columns;
        (0..self.count())
            .map(move |number| (size(height, number / columns), size(width, number % columns)))
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

    /// Joins the coded tiles, `[B,T,C,h,w]` each, to one picture `[B,T,C,H,W]`.
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

/// `second`, with its start along `dim` blended with the end of `first`.
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

    /// A picture of one row.
    fn line(width: usize) -> Tensor {
        let numbers = Tensor::arange(0f32, width as f32, &Device::Cpu).unwrap();
        numbers.reshape((1, 1, 1, 1, width)).unwrap()
    }

    #[test]
    fn tiles_begin_a_stride_apart_and_end_with_the_picture() {
        let config = VaeConfig { scale_factor_spatial: 1, ..VaeConfig::wan_2_1() };
        let tiling = Tiling { min: 4, stride: 3 };
        let cut = |width: usize| -> Vec<Vec<f32>> {
            let tiles = Tiles::to_decode(tiling, &config, (1, width)).unwrap();
            (0..tiles.count()).map(|n| numbers(&tiles.cut(&line(width), n).unwrap())).collect()
        };
        assert_eq!(cut(4), [[0., 1., 2., 3.]]);
        assert_eq!(cut(5), [vec![0., 1., 2., 3.], vec![3., 4.]]);
        assert_eq!(cut(7), [vec![0., 1., 2., 3.], vec![3., 4., 5., 6.], vec![6.]]);
        // Row by row: the second tile of a 2x2 lies beside the first.
        let picture = Tensor::arange(0f32, 25., &Device::Cpu).unwrap();
        let picture = picture.reshape((1, 1, 1, 5, 5)).unwrap();
        let tiles = Tiles::to_decode(tiling, &config, (5, 5)).unwrap();
        assert_eq!(tiles.count(), 4);
        let corner = |number: usize| numbers(&tiles.cut(&picture, number).unwrap())[0];
        assert_eq!([0, 1, 2, 3].map(corner), [0., 3., 15., 18.]);
    }

    #[test]
    fn a_tile_counts_pixels_for_a_decoder_and_patches_for_an_encoder() {
        let (old, new) = (VaeConfig::wan_2_1(), VaeConfig::wan_2_2());
        let tiling = Tiling { min: 32, stride: 16 };
        let decode = |config: &VaeConfig, size| Tiles::to_decode(tiling, config, size).unwrap();
        let encode = |config: &VaeConfig, size| Tiles::to_encode(tiling, config, size).unwrap();
        // Latents of 8 and of 16 pixels a side, tiles of 4 and 2 of them.
        assert_eq!((decode(&old, (4, 4)).count(), decode(&old, (4, 5)).count()), (1, 2 * 3));
        assert_eq!((decode(&new, (2, 2)).count(), decode(&new, (3, 2)).count()), (1, 3 * 2));
        // Pixels, and patches of two by two.
        assert_eq!((encode(&old, (32, 32)).count(), encode(&old, (32, 33)).count()), (1, 2 * 3));
        assert_eq!((encode(&new, (16, 16)).count(), encode(&new, (16, 17)).count()), (1, 2));
        let steps =
            |tiles: Tiles| [tiles.before, tiles.after].map(|Steps { side, stride }| (side, stride));
        assert_eq!(steps(decode(&old, (9, 9))), [(4, 2), (32, 16)]);
        assert_eq!(steps(decode(&new, (9, 9))), [(2, 1), (16, 8)]);
        assert_eq!(steps(encode(&old, (99, 99))), [(32, 16), (4, 2)]);
        assert_eq!(steps(encode(&new, (99, 99))), [(32, 16), (4, 2)]);
        let Tiling { min, stride } = Tiling::default();
        assert_eq!((min, stride), (256, 192));
    }

    #[test]
    fn seams_are_blended_by_their_share_of_the_overlap() {
        // Four tiles of 4x4, one number each, every 2: the picture is 2 + 4 pixels a side.
        let config = VaeConfig { scale_factor_spatial: 1, ..VaeConfig::wan_2_1() };
        let tiles = Tiles::to_decode(Tiling { min: 4, stride: 2 }, &config, (5, 5)).unwrap();
        assert_eq!(tiles.count(), 9);
        let value = |row: usize, column: usize| (10 * row + column * column) as f32;
        let side = |place: usize| [4, 3, 1][place];
        let all = (0..9).map(|number| {
            let (row, column) = (number / 3, number % 3);
            let shape = (1, 1, 1, side(row), side(column));
            Tensor::full(value(row, column), shape, &Device::Cpu).unwrap()
        });
        let joined = numbers(&tiles.join(all.collect()).unwrap());
        // Along a row in the first tiles: 0 0, then half of the way from 0 to 1, then 1 to 4.
        assert_eq!(joined[..5], [0., 0., 0., 0.5, 1.]);
        // Down a column: the same, from 0 over 10 to 20.
        let column: Vec<f32> = (0..5).map(|row| joined[row * 5]).collect();
        assert_eq!(column, [0., 0., 0., 5., 10.]);
        // Where both seams cross, what comes from above and from the left is faded already, as in
        // diffusers: 11 with 0.5 from above is 5.75, and that with 5 from the left is 5.375.
        assert_eq!(joined[3 * 5 + 3], 5.375);
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
