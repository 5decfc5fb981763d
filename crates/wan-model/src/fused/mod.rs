//! Row kernels for which candle's CPU backend has no fused or no accurate form.
//!
//! candle runs elementwise operations one by one on one thread, and its layer norm computes the
//! variance as `E[x^2] - E[x]^2` in f32, which loses three digits where the mean is large. For f32
//! on the CPU, each function here is one pass over the rows on all threads. For other formats and
//! devices it is the same formula in candle's operations.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

mod modulation;
mod norm;
mod pointwise;

pub(crate) use modulation::{add_gated, modulate};
pub(crate) use norm::{layer_norm, softmax};
pub(crate) use pointwise::{add, add_bias, gelu, gelu_tanh};

/// Smallest number of elements per task of the thread pool.
const GRAIN: usize = 1 << 13;

pub(crate) fn fits(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// The storage of a tensor on the CPU.
pub(crate) fn cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("expected a tensor on the CPU"),
    }
}

pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), CpuStorage::F32(values)) => Ok(&values[start..end]),
        _ => bail!("fused kernels want contiguous f32, got {:?} {layout:?}", storage.dtype()),
    }
}

/// Makes `count` elements in rows of `width`: `row(number, out)` fills each row, in parallel.
pub(crate) fn each_row(
    count: usize,
    width: usize,
    row: impl Fn(usize, &mut [f32]) + Sync + Send,
) -> CpuStorage {
    let mut out = vec![0f32; count];
    let rows_min = (GRAIN / width.max(1)).max(1);
    out.par_chunks_mut(width)
        .with_min_len(rows_min)
        .enumerate()
        .for_each(|(number, out)| row(number, out));
    CpuStorage::F32(out)
}

/// Applies `row` to every row of `width` elements, in parallel.
fn each_row_in_place(
    storage: &mut CpuStorage,
    layout: &Layout,
    width: usize,
    row: impl Fn(&mut [f32]) + Sync + Send,
) -> Result<()> {
    let (Some((start, end)), CpuStorage::F32(values)) = (layout.contiguous_offsets(), storage)
    else {
        bail!("fused kernels want contiguous f32, got {layout:?}");
    };
    let rows_min = (GRAIN / width.max(1)).max(1);
    values[start..end].par_chunks_mut(width).with_min_len(rows_min).for_each(row);
    Ok(())
}

/// `e^x` to about one part in 10^7, without branches so that it vectorises. Cephes `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.;
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.500_000_06;
    let y = p * r * r + r + 1.;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    y * f32::from_bits(exponent)
}

/// Sum in eight interleaved lanes: it vectorises, and rounds less than one running sum.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|v| term(*v)).sum();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests;
