//! How fast this machine computes, measured in a few seconds.
//!
//! Small passes of the kernels that a run spends its time in, in shapes of the 1.3B and of the VAE. What is
//! [`Work`](crate::work::Work) divided by these speeds is a time that a run takes at least.

use std::time::{Duration, Instant};

use half::bf16;
use serde::{Deserialize, Serialize};
use wan_kernels::{
    Attention, Context, Elements, Epilogue, Frames, Geometry, Kernels, Matrix, MatrixMut,
    PackedConv, PackedWeight, Pool, Precision, Span, attend, convolve, multiply,
};

use crate::threads;
use crate::work;

/// Speeds of one kind of kernel in 10^9 operations a second, by the format of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// f32.
    pub f32: f64,
    /// bf16, with sums in f32.
    pub bf16: f64,
}

/// Speeds of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speeds {
    /// Products of matrices.
    pub products: Speed,
    /// Attention.
    pub attention: Speed,
    /// Convolutions.
    pub convolutions: Speed,
}

/// A precision in which a kernel is measured.
type Of = (Kernels, Precision);

/// Measures these kernels on all threads, for about as long as `budget`; at least one pass of each.
pub fn measure(kernels: Kernels, budget: Duration) -> Speeds {
    let each = budget / 6;
    let speed = |of: &(dyn Fn(Of, Duration) -> f64 + Sync)| Speed {
        f32: of((kernels, Precision::F32), each),
        bf16: of((kernels, Precision::Bf16), each),
    };
    threads::on_worker(|| Speeds {
        products: speed(&product),
        attention: speed(&attention),
        convolutions: speed(&convolution),
    })
}

/// 10^9 operations a second of the median pass: one to warm up, then as many as `budget` has time for.
fn median(operations: u64, budget: Duration, mut pass: impl FnMut()) -> f64 {
    pass();
    let (started, mut seconds) = (Instant::now(), Vec::new());
    while seconds.is_empty() || started.elapsed() < budget {
        let begun = Instant::now();
        pass();
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    operations as f64 / seconds[seconds.len() / 2] / 1e9
}

/// Numbers between -1 and 1 that differ.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn product((kernels, precision): Of, budget: Duration) -> f64 {
    let [rows, inputs, outputs] = [512, 1536, 1536];
    let (x, weight) = (numbers(rows * inputs), numbers(outputs * inputs));
    let weight = PackedWeight::new(kernels, Matrix::dense(&*weight, [outputs, inputs]), precision);
    let (pool, mut out) = (Pool::new(), vec![0f32; rows * outputs]);
    median(work::product(rows, inputs, outputs), budget, || {
        let context = Context { kernels, pool: &pool };
        let (x, out) = (Matrix::dense(&*x, [rows, inputs]), out.as_mut_slice());
        let to = MatrixMut::dense(out, [rows, outputs]);
        multiply(context, x, &(&weight).into(), &Epilogue::default(), to);
    })
}

fn attention((kernels, precision): Of, budget: Duration) -> f64 {
    let (queries, keys, heads, width) = (256, 4096, 12, 1536);
    let wide = [numbers(queries * width), numbers(keys * width), numbers(keys * width)];
    let narrow = wide.each_ref().map(|n| n.iter().map(|n| bf16::from_f32(*n)).collect::<Vec<_>>());
    let rows = [queries, keys, keys];
    let given = |number: usize| {
        let shape = [rows[number], width];
        match precision {
            Precision::F32 => Matrix::dense(&*wide[number], shape),
            Precision::Bf16 => Matrix::dense(&*narrow[number], shape),
        }
    };
    let scale = (width as f32 / heads as f32).sqrt().recip();
    let (pool, mut out) = (Pool::new(), vec![0f32; queries * width]);
    median(work::attention(queries, keys, width), budget, || {
        let context = Context { kernels, pool: &pool };
        let attention = Attention { batch: 1, heads, scale, precision };
        let span = Span { queries: 0..queries, keys: 0..keys };
        let to = MatrixMut::dense(out.as_mut_slice(), [queries, width]);
        attend(context, attention, [given(0), given(1), given(2)], &[span], to);
    })
}

/// 3x3x3 on a frame of 64x64 with 192 channels, which is a level of the VAE of Wan 2.1.
fn convolution((kernels, precision): Of, budget: Duration) -> f64 {
    let (channels, side, geometry) = (192, 64, Geometry::CUBE);
    let columns = channels * geometry.taps * geometry.kernel * geometry.kernel;
    let weight = numbers(channels * columns);
    let weight = Matrix::dense(&*weight, [channels, columns]);
    let packed = PackedConv::new(kernels, weight, geometry, precision);
    let frame = numbers(channels * side * side);
    let frames = [Some(Elements::F32(&frame)); 3];
    let (pool, mut out) = (Pool::new(), vec![0f32; channels * side * side]);
    median(work::product(side * side, columns, channels), budget, || {
        let context = Context { kernels, pool: &pool };
        let frames = Frames { frames: &frames, height: side, width: side };
        let to = MatrixMut::dense(out.as_mut_slice(), [channels, side * side]);
        convolve(context, (frames, &packed), None, None, to);
    })
}
