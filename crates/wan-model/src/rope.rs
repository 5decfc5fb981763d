//! Rotary position embedding over time, height and width.
//!
//! The `d` elements of a head are `d/2` pairs `(2i, 2i+1)`. The first pairs rotate with the frame,
//! the next with the row, the last with the column: height and width take `2 floor(d/6)` elements
//! each, time the rest (44, 42, 42 of 128). Pair `j` of an axis of width `a` rotates by `position *
//! 10000^(-2j/a)`. Angles are f64. Source: diffusers 0.42.1 `WanRotaryPosEmbed`.
#![allow(clippy::cast_possible_truncation, reason = "angles and scales, from f64")]

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

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

    /// Rotates the pairs of every head of `x [B,L,H head_dim]`, then multiplies by `scale`; on a GPU (on
    /// the CPU the kernels do).
    pub(crate) fn rotate(&self, x: &Tensor, scale: f64) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let head_dim = 2 * self.cos.dim(1)?;
        let split = x.reshape((batch, tokens, width / head_dim, head_dim))?; // [B,L,H,d]
        let by_head = split.transpose(1, 2)?.contiguous()?; // [B,H,L,d]
        let [cos, sin] = [self.cos.to_dtype(x.dtype())?, self.sin.to_dtype(x.dtype())?];
        let rotated = candle_nn::rotary_emb::rope_i(&by_head, &cos, &sin)?;
        Ok((rotated.transpose(1, 2)?.flatten_from(2)? * scale)?) // [B,L,D]
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
    use crate::testing::{noise, numbers};
    use wan_kernels::{Kernels, Matrix, MatrixMut, RmsNorm, Rotation, rms_norm};

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
    fn the_kernels_rotate_as_candle_does() {
        let grid = Grid { frames: 2, height: 3, width: 2 };
        let rope = Rope::new(grid, 8, 1024, &Device::Cpu).unwrap();
        let x = noise(1, &[1, 12, 24]);
        let squares = x.sqr().unwrap().mean_keepdim(2).unwrap().sqrt().unwrap();
        let rotated = rope.rotate(&x.broadcast_div(&squares).unwrap(), 0.5).unwrap();
        let (cos, sin) = (numbers(&rope.cos), numbers(&rope.sin));
        let rotation = Some(Rotation { cos: &cos, sin: &sin, tokens: 12 });
        let norm = RmsNorm { weight: &[1.; 24], eps: 0., rotation, scale: 0.5 };
        let (x, mut found) = (numbers(&x), vec![0f32; 12 * 24]);
        let out = MatrixMut::dense(found.as_mut_slice(), [12, 24]);
        rms_norm(Kernels::detect(), Matrix::dense(x.as_slice(), [12, 24]), norm, out);
        let far = found.iter().zip(numbers(&rotated)).map(|(a, b)| (a - b).abs());
        assert!(far.fold(0., f32::max) < 1e-6);
    }

    #[test]
    fn an_axis_beyond_the_table_is_refused() {
        let grid = Grid { frames: 9, height: 2, width: 2 };
        assert!(Rope::new(grid, 12, 8, &Device::Cpu).is_err());
    }
}
