//! Norms over a row, and what follows them.

use crate::epilogue::RowTable;
use crate::matrix::{Elements, Matrix, MatrixMut};
use crate::path::Kernels;
use crate::rows::each::{RowWork, each_row};

/// What follows the norm of a row.
#[derive(Clone, Copy, Debug)]
pub enum Affine<'a> {
    /// Nothing.
    None,
    /// `x weight + bias`, the same for all rows, `[columns]` each.
    Shared {
        /// The factors.
        weight: &'a [f32],
        /// What is added.
        bias: &'a [f32],
    },
    /// `x (1 + scale) + shift` by the frame of the row.
    Modulated {
        /// What is added to one and multiplied by.
        scale: RowTable<'a>,
        /// What is added.
        shift: RowTable<'a>,
    },
}

/// Layer norm of every row of `x`, then `affine`: `(x - mean) / sqrt(variance + eps)`, computed in
/// f32. The variance is that of the differences from the mean, so it keeps its digits where the
/// mean is large.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn layer_norm(kernels: Kernels, x: Matrix, eps: f32, affine: Affine, out: MatrixMut) {
    let (rows, columns) = (x.rows(), x.columns());
    match affine {
        Affine::None => {}
        Affine::Shared { weight, bias } => {
            assert_eq!([weight.len(), bias.len()], [columns; 2], "numbers of weight and bias");
        }
        Affine::Modulated { scale, shift } => {
            scale.check(rows, columns);
            shift.check(rows, columns);
        }
    }
    each_row(kernels, Some(x), out, LayerNorm { eps, affine });
}

#[derive(Clone, Copy)]
struct LayerNorm<'a> {
    eps: f32,
    affine: Affine<'a>,
}

impl RowWork for LayerNorm<'_> {
    #[inline(always)]
    fn row(self, row: usize, x: &mut [f32]) {
        let count = x.len() as f32;
        let mean = sum(x, |v| v) / count;
        let variance = sum(x, |v| (v - mean) * (v - mean)) / count;
        let factor = (variance + self.eps).sqrt().recip();
        match self.affine {
            Affine::None => x.iter_mut().for_each(|x| *x = (*x - mean) * factor),
            Affine::Shared { weight, bias } => {
                for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
                    *x = (*x - mean) * factor * weight + bias;
                }
            }
            Affine::Modulated { scale, shift } => {
                let (scale, shift) = (scale.part(row, 0, x.len()), shift.part(row, 0, x.len()));
                if let (Elements::F32(scale), Elements::F32(shift)) = (scale, shift) {
                    for ((x, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
                        *x = (*x - mean) * factor * (1. + scale) + shift;
                    }
                    return;
                }
                let mut held = [[0.; BLOCK]; 2];
                for (block, x) in x.chunks_mut(BLOCK).enumerate() {
                    let [held_scale, held_shift] = &mut held;
                    let held_scale = &mut held_scale[..x.len()];
                    let held_shift = &mut held_shift[..x.len()];
                    scale.part(block * BLOCK, x.len()).widen_to(held_scale);
                    shift.part(block * BLOCK, x.len()).widen_to(held_shift);
                    for ((x, scale), shift) in x.iter_mut().zip(held_scale).zip(held_shift) {
                        *x = (*x - mean) * factor * (1. + *scale) + *shift;
                    }
                }
            }
        }
    }
}

/// Numbers that are widened at once.
const BLOCK: usize = 64;

/// Angles of the rotary embedding: cosine and sine of every pair `(2i, 2i + 1)` of a head,
/// `[tokens, head_dim / 2]` each, the same for all heads.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Cosines, row by row.
    pub cos: &'a [f32],
    /// Sines, row by row.
    pub sin: &'a [f32],
    /// Tokens of the tables: row `r` turns by the angles of token `r % tokens`.
    pub tokens: usize,
}

/// RMS norm of every row of `x`, `x / sqrt(mean(x^2) + eps) weight`, then the rotation if there is
/// one, then `scale`: queries and keys on their way to attention. Computed in f32.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn rms_norm(kernels: Kernels, x: Matrix, norm: RmsNorm, out: MatrixMut) {
    let columns = x.columns();
    assert_eq!(norm.weight.len(), columns, "numbers of the weight");
    if let Some(Rotation { cos, sin, tokens }) = norm.rotation {
        let pairs = cos.len().checked_div(tokens).unwrap_or(0);
        let fits = cos.len() == sin.len() && cos.len() == pairs * tokens && pairs > 0;
        assert!(fits, "{} cosines and {} sines of {tokens} tokens", cos.len(), sin.len());
        assert!(columns.is_multiple_of(2 * pairs), "heads of {pairs} pairs in {columns}");
    }
    each_row(kernels, Some(x), out, norm);
}

/// What [`rms_norm`] does to a row.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// `[columns]`.
    pub weight: &'a [f32],
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Turns the pairs of every head.
    pub rotation: Option<Rotation<'a>>,
    /// Factor of all: that of the softmax, or 1.
    pub scale: f32,
}

impl RowWork for RmsNorm<'_> {
    #[inline(always)]
    fn row(self, row: usize, x: &mut [f32]) {
        let mean = sum(x, |v| v * v) / x.len() as f32;
        let factor = (mean + self.eps).sqrt().recip();
        x.iter_mut().zip(self.weight).for_each(|(x, weight)| *x = *x * factor * weight);
        if let Some(Rotation { cos, sin, tokens }) = self.rotation {
            let pairs = cos.len() / tokens;
            let start = row % tokens * pairs;
            let (cos, sin) = (&cos[start..][..pairs], &sin[start..][..pairs]);
            for head in x.chunks_exact_mut(2 * pairs) {
                for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                    let [real, imaginary] = *pair;
                    *pair = [real * cos - imaginary * sin, real * sin + imaginary * cos];
                }
            }
        }
        if self.scale != 1. {
            x.iter_mut().for_each(|x| *x *= self.scale);
        }
    }
}

/// Sum in sixteen interleaved lanes: it vectorises, and rounds less than one running sum.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, value)| *lane += term(*value));
    lanes.into_iter().sum()
}
