//! Rotary position embedding over time, height and width.
//!
//! The `d` elements of a head are `d/2` pairs `(2i, 2i+1)`. The first pairs rotate with the frame,
//! the next with the row, the last with the column: height and width take `2 floor(d/6)` elements
//! each, time the rest (44, 42, 42 of 128). Pair `j` of an axis of width `a` rotates by `position *
//! 10000^(-2j/a)`. Angles are f64. Source: diffusers 0.42.1 `WanRotaryPosEmbed`.
#![allow(clippy::cast_possible_truncation, reason = "angles and scales, from f64")]

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor};

use crate::error::{Error, Result};
use crate::fused;

/// Patches of a video along time, height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Frames of tokens.
    pub frames: usize,
    /// Rows of tokens in a frame.
    pub height: usize,
    /// Columns of tokens in a frame.
    pub width: usize,
}

impl Grid {
    /// Tokens of one frame.
    pub fn frame_tokens(&self) -> usize {
        self.height * self.width
    }

    /// Tokens of the video, L; they are ordered frame by frame, row by row.
    pub fn tokens(&self) -> usize {
        self.frames * self.frame_tokens()
    }
}

/// Cosine and sine of every token's angles, `[L, head_dim/2]` each, f32.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Cosines `[L, head_dim/2]`.
    pub cos: Tensor,
    /// Sines `[L, head_dim/2]`.
    pub sin: Tensor,
}

/// Elements of a head for time, height and width.
fn axis_dims(head_dim: usize) -> [usize; 3] {
    let side = 2 * (head_dim / 6);
    [head_dim - 2 * side, side, side]
}

impl Rope {
    /// Tables for a grid.
    ///
    /// # Errors
    /// [`Error::Input`] if an axis is longer than `longest` patches.
    pub fn new(grid: Grid, head_dim: usize, longest: usize, device: &Device) -> Result<Self> {
        let lengths = [grid.frames, grid.height, grid.width];
        if lengths.iter().any(|length| *length > longest) {
            let expected = format!("at most {longest} patches per axis");
            return Err(Error::input("latents", expected, lengths));
        }
        let dims = axis_dims(head_dim);
        let axes: Vec<_> = lengths.iter().zip(dims).map(|(n, dim)| axis_angles(*n, dim)).collect();
        let half = head_dim / 2;
        let mut cos = Vec::with_capacity(grid.tokens() * half);
        let mut sin = Vec::with_capacity(grid.tokens() * half);
        for frame in &axes[0] {
            for row in &axes[1] {
                for column in &axes[2] {
                    for (c, s) in frame.iter().chain(row).chain(column) {
                        cos.push(*c);
                        sin.push(*s);
                    }
                }
            }
        }
        let shape = (grid.tokens(), half);
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }
}

impl Rope {
    /// The tables for a run of tokens.
    pub(crate) fn of_tokens(&self, tokens: &Range<usize>) -> Result<Self> {
        let own = |table: &Tensor| table.narrow(0, tokens.start, tokens.len());
        Ok(Self { cos: own(&self.cos)?, sin: own(&self.sin)? })
    }

    /// Rotates the pairs of every head of `x [B,L,H head_dim]`, then multiplies by `scale`.
    pub(crate) fn rotate(&self, x: &Tensor, scale: f64) -> Result<Tensor> {
        if fused::fits(x) {
            let op = Rotate { scale: scale as f32 };
            return Ok(x.contiguous()?.apply_op3_no_bwd(&self.cos, &self.sin, &op)?);
        }
        let (batch, tokens, width) = x.dims3()?;
        let head_dim = 2 * self.cos.dim(1)?;
        let split = x.reshape((batch, tokens, width / head_dim, head_dim))?; // [B,L,H,d]
        let by_head = split.transpose(1, 2)?.contiguous()?; // [B,H,L,d]
        let [cos, sin] = [self.cos.to_dtype(x.dtype())?, self.sin.to_dtype(x.dtype())?];
        let rotated = candle_nn::rotary_emb::rope_i(&by_head, &cos, &sin)?;
        Ok((rotated.transpose(1, 2)?.flatten_from(2)? * scale)?) // [B,L,D]
    }
}

/// Rotation without the two copies that candle's `rope_i` needs to bring the heads to the front.
struct Rotate {
    scale: f32,
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, tokens, width) = layout.shape().dims3()?;
        let (table_tokens, half) = cos_layout.shape().dims2()?;
        if tokens != table_tokens || half == 0 || width % (2 * half) != 0 {
            candle_core::bail!("{:?} does not fit {:?}", layout.dims(), cos_layout.dims());
        }
        let x = fused::slice(x, layout)?;
        let (cos, sin) = (fused::slice(cos, cos_layout)?, fused::slice(sin, sin_layout)?);
        let out = fused::each_row(x.len(), width, |row, out| {
            let start = row % tokens * half;
            let (cos, sin) = (&cos[start..][..half], &sin[start..][..half]);
            let heads = x[row * width..][..width].chunks_exact(2 * half);
            for (x, out) in heads.zip(out.chunks_exact_mut(2 * half)) {
                for (pair, (cos, sin)) in cos.iter().zip(sin).enumerate() {
                    let (real, imaginary) = (x[2 * pair], x[2 * pair + 1]);
                    out[2 * pair] = (real * cos - imaginary * sin) * self.scale;
                    out[2 * pair + 1] = (real * sin + imaginary * cos) * self.scale;
                }
            }
        });
        Ok((out, layout.shape().clone()))
    }
}

/// Cosine and sine of each pair at each position of one axis.
fn axis_angles(positions: usize, dim: usize) -> Vec<Vec<(f32, f32)>> {
    let angle = |position: usize, pair: usize| {
        position as f64 * 10000f64.powf(-2. * pair as f64 / dim as f64)
    };
    let pairs = |position| {
        (0..dim / 2).map(move |pair| {
            let (sin, cos) = angle(position, pair).sin_cos();
            (cos as f32, sin as f32)
        })
    };
    (0..positions).map(|position| pairs(position).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use candle_core::DType;

    #[test]
    fn heads_split_into_time_height_width() {
        assert_eq!(axis_dims(128), [44, 42, 42]);
        assert_eq!(axis_dims(24), [8, 8, 8]);
        assert_eq!(axis_dims(28), [12, 8, 8]);
        assert_eq!(axis_dims(32), [12, 10, 10]);
    }

    #[test]
    fn angles_of_one_token_by_hand() {
        // Head of 12: two pairs per axis, turning by 1 and 10000^(-1/2) = 0.01 per patch.
        let grid = Grid { frames: 3, height: 2, width: 2 };
        let rope = Rope::new(grid, 12, 1024, &Device::Cpu).unwrap();
        // Frame 2, row 1, column 0 is token 2*4 + 1*2 + 0.
        let cos = rope.cos.to_vec2::<f32>().unwrap()[10].clone();
        let expected = [2f64, 0.02, 1., 0.01, 0., 0.].map(|angle| angle.cos() as f32);
        assert_eq!(cos, expected);
    }

    #[test]
    fn rotation_equals_candles() {
        let grid = Grid { frames: 2, height: 3, width: 2 };
        let rope = Rope::new(grid, 8, 1024, &Device::Cpu).unwrap();
        let x = noise(1, &[2, 12, 24]);
        let fused = rope.rotate(&x, 0.5).unwrap().to_dtype(DType::F64).unwrap();
        let composed = rope.rotate(&x.to_dtype(DType::F64).unwrap(), 0.5).unwrap();
        let difference = (fused - composed).unwrap().abs().unwrap().flatten_all().unwrap();
        assert!(difference.max(0).unwrap().to_scalar::<f64>().unwrap() < 1e-6);
    }

    #[test]
    fn an_axis_beyond_the_table_is_refused() {
        let grid = Grid { frames: 9, height: 2, width: 2 };
        assert!(Rope::new(grid, 12, 8, &Device::Cpu).is_err());
    }
}
