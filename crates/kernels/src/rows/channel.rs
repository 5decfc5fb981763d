//! The norm of a pixel over its channels.

use rayon::prelude::*;

use crate::functions::silu;
use crate::matrix::{Matrix, MatrixMut};
use crate::path::Kernels;
use crate::shared::Shared;
use crate::simd::dispatch::Work;
use crate::simd::unit::Unit;

/// Pixels that a task works on: what it reads twice stays in the second cache.
const PIXELS: usize = 256;

/// Divides each pixel of frames by the root mean square of its channels, multiplies by `gamma
/// [channels]`, and applies SiLU if `activated` is set: `x sqrt(C) / max(|x|, 1e-12) gamma`. `x` and
/// `out` are `[frames channels, pixels]`. Source: diffusers 0.42.1 `WanRMS_norm`.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn channel_norm(
    kernels: Kernels,
    x: Matrix,
    (gamma, activated): (&[f32], bool),
    out: MatrixMut,
) {
    let (rows, pixels) = (x.rows(), x.columns());
    assert_eq!([out.rows(), out.columns()], [rows, pixels], "frames in and frames out");
    let channels = gamma.len();
    assert!(channels > 0 && rows.is_multiple_of(channels), "{rows} channels of {channels} a frame");
    let (out, blocks) = (Shared::new(out), pixels.div_ceil(PIXELS));
    (0..rows / channels * blocks).into_par_iter().for_each(|task| {
        let start = task % blocks * PIXELS;
        let (first, len) = (task / blocks * channels, PIXELS.min(pixels - start));
        kernels.run(Block { x: &x, out: &out, gamma, activated, first, start, len });
    });
}

/// Some pixels of a frame.
struct Block<'a> {
    x: &'a Matrix<'a>,
    out: &'a Shared<'a>,
    gamma: &'a [f32],
    activated: bool,
    /// The row of the first channel.
    first: usize,
    /// The first pixel.
    start: usize,
    len: usize,
}

impl Work for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, _: U) {
        let (mut factors, mut held) = ([0f32; PIXELS], [0f32; PIXELS]);
        let (factors, held) = (&mut factors[..self.len], &mut held[..self.len]);
        for channel in 0..self.gamma.len() {
            self.x.part(self.first + channel, self.start, self.len).widen_to(held);
            factors.iter_mut().zip(&*held).for_each(|(square, x)| *square += x * x);
        }
        let root = (self.gamma.len() as f32).sqrt();
        for factor in factors.iter_mut() {
            let length = factor.sqrt();
            // A NaN stays one.
            *factor = root / if length < 1e-12 { 1e-12 } else { length };
        }
        for (channel, gamma) in self.gamma.iter().enumerate() {
            let row = self.first + channel;
            self.x.part(row, self.start, self.len).widen_to(held);
            held.iter_mut().zip(&*factors).for_each(|(x, factor)| *x = *x * factor * gamma);
            if self.activated {
                held.iter_mut().for_each(|x| *x = silu(*x));
            }
            #[expect(unsafe_code, reason = "a part of a matrix that other tasks write too")]
            // SAFETY: no other task has these pixels of this frame.
            let mut out = unsafe { self.out.part(row, self.start, self.len) };
            out.round_from(held);
        }
    }
}
