//! Convolution over time and space.
//!
//! candle has no 3-D convolution, and its 2-D convolution gathers patches element by element (27
//! GFLOP/s where a matrix product has 100). Here the kernel is one matrix `[O, kt C kh kw]`, made
//! at load. Patches are copied row by row into a tile that stays in the processor's cache, and a
//! tile is one matrix product. On a GPU the taps in time become channels of candle's 2-D
//! convolution.

use std::ops::Range;

use crate::weights::Scope;
use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::fused;
use crate::matrix::{Matrix, round};
use crate::product::product;
use crate::threads;
use crate::vae::cost::{Cost, Frames};
use crate::vae::reach::Reach;

/// Elements of a tile of patches: 512 KiB, half of a common second-level cache.
const TILE_MAX: usize = 1 << 17;

/// Elements of the patches that candle's convolution writes out at once: 512 MiB.
const PATCHES_MAX: usize = 1 << 27;

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Frames a kernel spans.
    pub(crate) taps: usize,
    /// Frames between outputs.
    pub(crate) time_stride: usize,
    /// Rows and columns a kernel spans.
    pub(crate) kernel: usize,
    /// Rows and columns between outputs.
    pub(crate) stride: usize,
    /// Zero rows above and zero columns to the left.
    pub(crate) pad_before: usize,
    /// Zero rows below and zero columns to the right.
    pub(crate) pad_after: usize,
    /// Whether every input pixel is first doubled both ways (nearest neighbour).
    pub(crate) doubled: bool,
}

impl Geometry {
    /// Pointwise in time and space.
    pub(crate) const POINT: Self = Self {
        taps: 1,
        time_stride: 1,
        kernel: 1,
        stride: 1,
        pad_before: 0,
        pad_after: 0,
        doubled: false,
    };
    /// 3x3x3, same size.
    pub(crate) const CUBE: Self =
        Self { taps: 3, kernel: 3, pad_before: 1, pad_after: 1, ..Self::POINT };
    /// Three frames, pointwise in space.
    pub(crate) const TIME: Self = Self { taps: 3, ..Self::POINT };
    /// Three frames, every second output.
    pub(crate) const TIME_HALVED: Self = Self { time_stride: 2, ..Self::TIME };
    /// 3x3 on the doubled picture.
    pub(crate) const DOUBLED: Self =
        Self { kernel: 3, pad_before: 1, pad_after: 1, doubled: true, ..Self::POINT };
    /// 3x3, every second output; diffusers pads right and below only.
    pub(crate) const HALVED: Self = Self { kernel: 3, stride: 2, pad_after: 1, ..Self::POINT };

    fn scale(&self) -> usize {
        1 + usize::from(self.doubled)
    }

    /// Output rows (or columns) of `size` input rows.
    fn output(&self, size: usize) -> usize {
        (size * self.scale() + self.pad_before + self.pad_after - self.kernel) / self.stride + 1
    }

    /// Input row of output row `out` under kernel row `offset`, unless it is padding.
    fn input(&self, out: usize, offset: usize, size: usize) -> Option<usize> {
        let padded = out * self.stride + offset;
        let row = padded.checked_sub(self.pad_before)? / self.scale();
        (row < size).then_some(row)
    }
}

/// A convolution: its kernel, and its bias `[O]`.
pub(crate) struct Conv {
    kernel: Kernel,
    bias: Tensor,
    geometry: Geometry,
    /// The format of the operands of its products.
    compute: DType,
}

/// Weights of a convolution.
enum Kernel {
    /// `[O, kt C kh kw]`: as products take it.
    Wide(Tensor),
    /// `[O, C kt kh kw]`, in the format of the file; widened for each pass.
    AtRest { weight: Matrix, channels: usize },
}

impl Kernel {
    /// Takes a weight `[O, C, kt, kh, kw]`.
    fn new(weight: Matrix, (channels, taps): (usize, usize)) -> Result<Self> {
        match weight.bytes() < (4 * weight.shape().0 * weight.shape().1) as u64 {
            true => Ok(Self::AtRest { weight, channels }),
            false => Ok(Self::Wide(taps_first(&weight.wide()?, channels, taps)?)),
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Wide(weight) => weight.dims()[0],
            Self::AtRest { weight, .. } => weight.shape().0,
        }
    }

    /// Bytes of what [`wide`](Self::wide) makes.
    fn widened_bytes(&self) -> usize {
        match self {
            Self::Wide(_) => 0,
            // In the order of the file, and in that of products.
            Self::AtRest { weight, .. } => 2 * 4 * weight.shape().0 * weight.shape().1,
        }
    }

    /// `[O, kt C kh kw]`.
    fn wide(&self, taps: usize) -> Result<Tensor> {
        match self {
            Self::Wide(weight) => Ok(weight.clone()),
            Self::AtRest { weight, channels } => taps_first(&weight.wide()?, *channels, taps),
        }
    }
}

/// `[O, C kt kh kw]` to `[O, kt C kh kw]`.
fn taps_first(weight: &Tensor, channels: usize, taps: usize) -> Result<Tensor> {
    let split = weight.reshape((weight.dim(0)?, channels, taps, ()))?;
    Ok(split.transpose(1, 2)?.flatten_from(1)?.contiguous()?)
}

impl Conv {
    /// Loads a 3-D convolution: `weight [O,C,kt,kh,kw]`.
    pub(crate) fn load(
        channels: usize,
        outputs: usize,
        geometry: Geometry,
        scope: Scope,
    ) -> Result<Self> {
        let Geometry { taps, kernel, .. } = geometry;
        let weight = scope.matrix((outputs, channels, taps, kernel, kernel), "weight")?;
        Self::new(weight, (channels, outputs), geometry, &scope)
    }

    /// Loads a 2-D convolution: `weight [O,C,kh,kw]`.
    pub(crate) fn load_2d(
        channels: usize,
        outputs: usize,
        geometry: Geometry,
        scope: Scope,
    ) -> Result<Self> {
        let kernel = geometry.kernel;
        let weight = scope.matrix((outputs, channels, kernel, kernel), "weight")?;
        Self::new(weight, (channels, outputs), geometry, &scope)
    }

    fn new(
        weight: Matrix,
        (channels, outputs): (usize, usize),
        geometry: Geometry,
        scope: &Scope,
    ) -> Result<Self> {
        let compute = weight.compute();
        let kernel = Kernel::new(weight, (channels, geometry.taps))?;
        let bias = scope.to_dtype(DType::F32).get(outputs, "bias")?;
        Ok(Self { kernel, bias, geometry, compute })
    }

    /// What [`causal`](Self::causal) reads for frames that it gives.
    pub(crate) fn reach(&self, given: Reach) -> Reach {
        given.further(self.geometry.taps - 1)
    }

    /// `[B,T,C,H,W]` to `[B,(T-kt)/ts+1,O,H',W']`, without padding in time.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        if fused::fits(&x) { self.tiled(&x) } else { self.by_conv2d(&x) }
    }

    /// [`forward`](Self::forward) with the previous frames of the stream in front (zeros at first):
    /// `[B,T,O,..]`. Replaces `history` by the last frames seen.
    pub(crate) fn causal(&self, x: &Tensor, history: &mut Option<Tensor>) -> Result<Tensor> {
        let before = self.geometry.taps - 1;
        if before == 0 {
            return self.forward(x);
        }
        let (batch, _, channels, height, width) = x.dims5()?;
        let past = match history.take() {
            Some(past) => past,
            None => Tensor::zeros((batch, before, channels, height, width), x.dtype(), x.device())?,
        };
        let seen = Tensor::cat(&[&past, x], 1)?; // [B,kt-1+T,C,H,W]
        drop(past);
        // Copied: a view would keep all of `seen` alive until the next chunk.
        *history = Some(seen.narrow(1, seen.dim(1)? - before, before)?.force_contiguous()?);
        self.forward(&seen)
    }

    /// What a pass over frames `x` holds above them; `causal` with those of the chunk before in front.
    pub(crate) fn cost(&self, x: Frames, causal: bool) -> Cost {
        let geometry = self.geometry;
        let before = if causal { geometry.taps - 1 } else { 0 };
        let seen = Frames { frames: x.frames + before, ..x };
        let out = Frames {
            frames: (seen.frames - geometry.taps.min(seen.frames)) / geometry.time_stride + 1,
            channels: self.kernel.outputs(),
            height: geometry.output(x.height),
            width: geometry.output(x.width),
        };
        let depth = geometry.taps * geometry.kernel * geometry.kernel * x.channels;
        let patches = 4 * TILE_MAX.max(depth * out.width) * threads::of_products();
        let held = Frames { frames: before, ..x }.bytes();
        let seen = if before > 0 { seen.bytes() } else { 0 };
        // Tiles, and what they are put together to.
        let working = seen + 2 * out.bytes() + patches + self.kernel.widened_bytes();
        Cost { out, most: held + working, held, first: held + working }
    }

    fn tiled(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, frames, channels, height, width) = x.dims5()?;
        let geometry = self.geometry;
        let input = Input { channels, height, width, geometry };
        let out_frames = (frames - geometry.taps) / geometry.time_stride + 1;
        let (out_height, out_width) = (geometry.output(height), geometry.output(width));
        let weight = self.kernel.wide(geometry.taps)?;
        let (outputs, depth) = weight.dims2()?;
        let band = (TILE_MAX / (depth * out_width)).clamp(1, out_height);
        let bands = out_height.div_ceil(band);

        let (storage, layout) = x.storage_and_layout();
        let candle_core::Storage::Cpu(values) = &*storage else { unreachable!("checked by fits") };
        let values = fused::slice(values, layout)?;
        let tile = |number: usize| -> candle_core::Result<Vec<f32>> {
            let (frame, start) = (number / bands, number % bands * band);
            let (b, t) = (frame / out_frames, frame % out_frames);
            let first = (b * frames + t * geometry.time_stride) * input.frame();
            let rows = start..(start + band).min(out_height);
            let columns = rows.len() * out_width;
            let mut patches = input.patches(&values[first..], rows);
            round(&mut patches, self.compute);
            let patches = Tensor::from_vec(patches, (depth, columns), x.device())?;
            product(&weight, &patches)?.flatten_all()?.to_vec1()
        };
        let tiles: candle_core::Result<Vec<_>> =
            (0..batch * out_frames * bands).into_par_iter().map(tile).collect();
        let (tiles, bias) = (tiles?, self.bias.to_vec1::<f32>()?);

        // A tile has a band of every output channel; the result has whole channels.
        let plane = out_height * out_width;
        let mut out = vec![0f32; batch * out_frames * outputs * plane];
        out.par_chunks_mut(plane).enumerate().for_each(|(number, out)| {
            let (frame, channel) = (number / outputs, number % outputs);
            for (tile, out) in tiles[frame * bands..].iter().zip(out.chunks_mut(band * out_width)) {
                let own = &tile[channel * out.len()..];
                for (out, value) in out.iter_mut().zip(own) {
                    *out = value + bias[channel];
                }
            }
        });
        let shape = (batch, out_frames, outputs, out_height, out_width);
        Ok(Tensor::from_vec(out, shape, x.device())?)
    }

    /// One output frame after the other, with its taps as channels, a band of rows at a time:
    /// candle writes out the patches of a band, which for a whole picture would be gigabytes. On
    /// the CPU this serves formats other than f32, in which no loader here reads a VAE; candle's
    /// product asks for the number of cores then (see `product`).
    fn by_conv2d(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, frames, channels, height, width) = x.dims5()?;
        let Geometry { taps, time_stride, kernel, stride, pad_before, pad_after, doubled } =
            self.geometry;
        let out_frames = (frames - taps) / time_stride + 1;
        let (out_height, out_width) = (self.geometry.output(height), self.geometry.output(width));
        let weight = self.kernel.wide(taps)?.to_dtype(x.dtype())?;
        let (outputs, depth) = weight.dims2()?;
        let weight = weight.reshape((outputs, taps * channels, kernel, kernel))?;
        let band = (PATCHES_MAX / (batch * depth * out_width)).clamp(1, out_height);
        let mut out = Vec::with_capacity(out_frames);
        for frame in 0..out_frames {
            let folded = x.narrow(1, frame * time_stride, taps)?; // [B,kt,C,H,W]
            let mut folded = folded.reshape((batch, taps * channels, height, width))?;
            if doubled {
                folded = folded.upsample_nearest2d(2 * height, 2 * width)?;
            }
            for dim in [2, 3] {
                folded = folded.pad_with_zeros(dim, pad_before, pad_after)?;
            }
            let of_band = |start: usize| {
                let rows = band.min(out_height - start);
                let read = folded.narrow(2, start * stride, (rows - 1) * stride + kernel)?;
                read.contiguous()?.conv2d(&weight, 0, stride, 1, 1)
            };
            let bands = (0..out_height).step_by(band).map(of_band);
            out.push(Tensor::cat(&bands.collect::<candle_core::Result<Vec<_>>>()?, 2)?);
        }
        let out = Tensor::stack(&out, 1)?; // [B,T',O,H',W']
        let bias = self.bias.to_dtype(x.dtype())?.reshape((1, 1, outputs, 1, 1))?;
        Ok(out.broadcast_add(&bias)?)
    }
}

/// The frames from which a convolution reads patches.
struct Input {
    channels: usize,
    height: usize,
    width: usize,
    geometry: Geometry,
}

impl Input {
    fn frame(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Patches `[kt C kh kw, rows out_width]` of output rows `rows`; `values` starts at the first
    /// tap's frame.
    fn patches(&self, values: &[f32], rows: Range<usize>) -> Vec<f32> {
        let Geometry { taps, kernel, .. } = self.geometry;
        let out_width = self.geometry.output(self.width);
        let planes = taps * self.channels;
        let mut patches = vec![0f32; planes * kernel * kernel * rows.len() * out_width];
        let mut lines = patches.chunks_exact_mut(out_width);
        for plane in values.chunks_exact(self.height * self.width).take(planes) {
            for ky in 0..kernel {
                for kx in 0..kernel {
                    for (row, line) in rows.clone().zip(&mut lines) {
                        if let Some(y) = self.geometry.input(row, ky, self.height) {
                            self.copy_line(&plane[y * self.width..][..self.width], kx, line);
                        }
                    }
                }
            }
        }
        patches
    }

    /// One output row of the patches under kernel column `kx`; padding stays zero.
    fn copy_line(&self, from: &[f32], kx: usize, line: &mut [f32]) {
        let Geometry { stride, pad_before, doubled, .. } = self.geometry;
        if stride == 1 && !doubled {
            let (skip, start) = (pad_before.saturating_sub(kx), kx.saturating_sub(pad_before));
            let from = &from[start.min(from.len())..];
            let count = from.len().min(line.len() - skip);
            line[skip..skip + count].copy_from_slice(&from[..count]);
            return;
        }
        for (column, number) in line.iter_mut().enumerate() {
            if let Some(x) = self.geometry.input(column, kx, self.width) {
                *number = from[x];
            }
        }
    }
}

/// Divides each pixel of `x [B,T,C,H,W]` by the root mean square of its channels, multiplies by
/// `gamma [C]`, and applies SiLU if `silu` is set. Source: diffusers 0.42.1 `WanRMS_norm`.
pub(crate) fn channel_norm(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Tensor> {
    let (batch, frames, channels, height, width) = x.dims5()?;
    if !fused::fits(x) {
        let norm = x.sqr()?.sum_keepdim(2)?.sqrt()?.maximum(1e-12)?; // [B,T,1,H,W]
        let gamma = (gamma.reshape((1, 1, channels, 1, 1))? * (channels as f64).sqrt())?;
        let normed = x.broadcast_div(&norm)?.broadcast_mul(&gamma)?;
        return Ok(if silu { normed.silu()? } else { normed });
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let candle_core::Storage::Cpu(values) = &*storage else { unreachable!("checked by fits") };
    let (values, gamma) = (fused::slice(values, layout)?, gamma.to_vec1::<f32>()?);
    let plane = height * width;
    let out = channel_norm_f32(values, &gamma, plane, silu);
    Ok(Tensor::from_vec(out, (batch, frames, channels, height, width), x.device())?)
}

fn channel_norm_f32(values: &[f32], gamma: &[f32], plane: usize, silu: bool) -> Vec<f32> {
    const PIXELS: usize = 1024;
    let channels = gamma.len();
    let root = (channels as f32).sqrt();
    let blocks = plane.div_ceil(PIXELS);
    // First one factor per pixel, then one pass per channel: both write contiguous runs.
    let factors: Vec<Vec<f32>> = (0..values.len() / (channels * plane) * blocks)
        .into_par_iter()
        .map(|number| {
            let (frame, start) = (number / blocks, number % blocks * PIXELS);
            let mut squares = vec![0f32; PIXELS.min(plane - start)];
            for channel in 0..channels {
                let pixels = &values[(frame * channels + channel) * plane + start..];
                squares.iter_mut().zip(pixels).for_each(|(square, x)| *square += x * x);
            }
            squares.iter_mut().for_each(|square| *square = root / square.sqrt().max(1e-12));
            squares
        })
        .collect();
    let mut out = vec![0f32; values.len()];
    out.par_chunks_mut(plane).zip(values.par_chunks(plane)).enumerate().for_each(
        |(number, (out, x))| {
            let gamma = gamma[number % channels];
            let factors = &factors[number / channels * blocks..][..blocks];
            let blocks = out.chunks_mut(PIXELS).zip(x.chunks(PIXELS)).zip(factors);
            for ((out, x), factors) in blocks {
                for ((out, x), factor) in out.iter_mut().zip(x).zip(factors) {
                    let normed = x * factor * gamma;
                    *out = if silu { normed / (1. + fused::exp(-normed)) } else { normed };
                }
            }
        },
    );
    out
}

/// Loads the `gamma` of a channel norm, which has `ones` trailing axes of length 1 in the files.
pub(crate) fn load_gamma(channels: usize, ones: usize, scope: Scope) -> Result<Tensor> {
    let mut shape = vec![channels];
    shape.resize(1 + ones, 1);
    Ok(scope.get(shape, "gamma")?.flatten_all()?.to_dtype(DType::F32)?)
}
