//! Convolution over time and space.
//!
//! candle has no 3-D convolution. On the CPU the kernels convolve frames as they lie, without patches
//! in memory, with the frames of the past in front. On a GPU the taps in time become channels of
//! candle's 2-D convolution.

use crate::weights::{AtRest, Holding, Kept, Scope, Weight};
use candle_core::{DType, Device, Shape, Tensor};
pub(crate) use wan_kernels::Geometry;
use wan_kernels::footprint::convolution_bytes;
use wan_kernels::{
    Elements, Frames as KernelFrames, Kernels, Matrix, MatrixMut, PackedConv, convolve,
    packed_conv_words,
};

use crate::arithmetic::{Arithmetic, numbers, precision};
use crate::error::{Error, Result};
use crate::fused;
use crate::vae::cost::{Cost, Frames};
use crate::vae::reach::Reach;
use crate::work;

/// Elements of the patches that candle's convolution writes out at once: 512 MiB.
const PATCHES_MAX: usize = 1 << 27;

/// A convolution: its kernel, and its bias `[O]`.
pub(crate) struct Conv {
    kernel: Kernel,
    held: Holding,
    /// Whether the kernel is kept as the kernels read it.
    is_packed: bool,
    bias: Tensor,
}

/// What a convolution's kernel is, and how it is kept.
#[derive(Clone)]
struct Kernel {
    geometry: Geometry,
    channels: usize,
    outputs: usize,
    /// The format of the operands of its products.
    compute: DType,
    arithmetic: Arithmetic,
    device: Device,
}

impl Kernel {
    /// Whether the kernels convolve; they have no f64.
    fn is_for_kernels(&self) -> bool {
        self.device.is_cpu() && self.compute != DType::F64
    }

    /// Bytes of the kernel as convolutions on the CPU read it.
    fn packed_bytes(&self) -> usize {
        let shape = [self.outputs, self.channels];
        let kernels = self.arithmetic.kernels();
        4 * packed_conv_words(kernels, shape, self.geometry, precision(self.compute))
    }

    /// Whether numbers of this format take at least as many bytes as packed ones. Others are packed
    /// for each pass.
    fn is_packed(&self, dtype: DType) -> bool {
        let shape = [self.outputs, 2];
        let (kernels, precision) = (self.arithmetic.kernels(), precision(self.compute));
        let of_two = 4 * packed_conv_words(kernels, shape, Geometry::POINT, precision);
        dtype.is_float() && dtype.size_in_bytes() * 2 * self.outputs >= of_two
    }

    fn bytes(&self, there: &AtRest) -> u64 {
        if !self.is_for_kernels() {
            return (self.outputs * self.columns() * self.compute.size_in_bytes()) as u64;
        }
        match there.dtype().is_some_and(|dtype| self.is_packed(dtype)) {
            true => self.packed_bytes() as u64,
            false => there.unpacked_bytes(self.compute),
        }
    }

    /// Bytes of a pass beside its frames: the planes and sums of each thread.
    fn working_bytes(&self, out: Frames) -> usize {
        let (kernels, threads) = (self.arithmetic.kernels(), rayon::current_num_threads());
        let conv = (self.geometry, [self.outputs, self.channels]);
        let out = [out.frames, out.height, out.width];
        convolution_bytes(kernels, conv, out, precision(self.compute), threads)
    }

    /// Bytes of the kernel where it is packed for each pass, with its numbers in f32.
    fn packing_bytes(&self) -> usize {
        4 * self.outputs * self.columns() + self.packed_bytes()
    }

    /// Numbers of the kernel for each output.
    fn columns(&self) -> usize {
        self.channels * self.geometry.taps * self.geometry.kernel * self.geometry.kernel
    }

    /// Keeps a weight `[O, C, kt, kh, kw]`.
    fn keep(&self, weight: Weight) -> Result<Kept> {
        if !self.is_for_kernels() {
            let whole = weight.to_tensor(self.compute, &self.device)?;
            let split = whole.reshape((self.outputs, self.channels, self.geometry.taps, ()))?;
            // `[O, kt C kh kw]`.
            let folded = split.transpose(1, 2)?.flatten_from(1)?.contiguous()?;
            return Ok(Kept::OnDevice(folded));
        }
        match &weight {
            Weight::Dense(tensor) if self.is_packed(tensor.dtype()) => {
                Ok(Kept::Convolved(self.pack(&weight)?))
            }
            _ => Ok(Kept::AtRest(crate::weights::at_rest(weight, self.compute)?)),
        }
    }

    fn pack(&self, weight: &Weight) -> Result<PackedConv> {
        let wide = weight.wide()?.to_dtype(DType::F32)?.contiguous()?;
        let (storage, layout) = wide.storage_and_layout();
        let matrix = Matrix::dense(numbers(&storage, layout)?, [self.outputs, self.columns()]);
        let (kernels, precision) = (self.arithmetic.kernels(), precision(self.compute));
        Ok(PackedConv::new(kernels, matrix, self.geometry, precision))
    }
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
        Self::new((outputs, channels, taps, kernel, kernel).into(), geometry, scope)
    }

    /// Loads a 2-D convolution: `weight [O,C,kh,kw]`.
    pub(crate) fn load_2d(
        channels: usize,
        outputs: usize,
        geometry: Geometry,
        scope: Scope,
    ) -> Result<Self> {
        let kernel = geometry.kernel;
        Self::new((outputs, channels, kernel, kernel).into(), geometry, scope)
    }

    fn new(shape: Shape, geometry: Geometry, scope: Scope) -> Result<Self> {
        let (outputs, channels) = (shape.dims()[0], shape.dims()[1]);
        let (arithmetic, device) = (scope.arithmetic().clone(), scope.device().clone());
        let compute = scope.dtype();
        let kernel = Kernel { geometry, channels, outputs, compute, arithmetic, device };
        let there = scope.at_rest(shape.clone(), "weight")?;
        let is_packed = there.dtype().is_some_and(|dtype| kernel.is_packed(dtype));
        let (sized, kept) = (kernel.clone(), kernel.clone());
        let held = scope.hold(
            (shape, "weight"),
            |there| sized.bytes(there),
            move |weight| kept.keep(weight),
        )?;
        let bias = scope.to_dtype(DType::F32).get(outputs, "bias")?;
        Ok(Self { kernel, held, is_packed, bias })
    }

    /// The kernels that it computes with on the CPU.
    pub(crate) fn arithmetic(&self) -> &Arithmetic {
        &self.kernel.arithmetic
    }

    /// What [`causal`](Self::causal) reads for frames that it gives.
    pub(crate) fn reach(&self, given: Reach) -> Reach {
        given.further(self.kernel.geometry.taps - 1)
    }

    /// `[B,T,C,H,W]` to `[B,(T-kt)/ts+1,O,H',W']`, without padding in time.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_after(None, x, None)
    }

    /// [`forward`](Self::forward) with the previous frames of the stream in front (zeros at first):
    /// `[B,T,O,..]`. Replaces `history` by the last frames seen.
    pub(crate) fn causal(&self, x: &Tensor, history: &mut Option<Tensor>) -> Result<Tensor> {
        self.causal_added(x, history, None)
    }

    /// [`causal`](Self::causal), added to a tensor of the shape that comes out.
    pub(crate) fn causal_added(
        &self,
        x: &Tensor,
        history: &mut Option<Tensor>,
        to: Option<&Tensor>,
    ) -> Result<Tensor> {
        let before = self.kernel.geometry.taps - 1;
        if before == 0 {
            return self.forward_after(None, x, to);
        }
        let (batch, frames, channels, height, width) = x.dims5()?;
        let past = match history.take() {
            Some(past) => past,
            None => Tensor::zeros((batch, before, channels, height, width), x.dtype(), x.device())?,
        };
        let out = self.forward_after(Some(&past), x, to)?;
        // Copied: a view would keep all of `x` alive until the next chunk.
        *history = Some(match frames >= before {
            true => x.narrow(1, frames - before, before)?.force_contiguous()?,
            false => Tensor::cat(&[&past.narrow(1, frames, before - frames)?, x], 1)?,
        });
        Ok(out)
    }

    /// [`forward`](Self::forward) with other frames in front, added to a tensor.
    pub(crate) fn forward_after(
        &self,
        past: Option<&Tensor>,
        x: &Tensor,
        to: Option<&Tensor>,
    ) -> Result<Tensor> {
        if self.kernel.is_for_kernels() {
            return self.by_kernels(past, x, to);
        }
        let out = match past {
            Some(past) => self.by_conv2d(&Tensor::cat(&[past, x], 1)?)?,
            None => self.by_conv2d(&x.contiguous()?)?,
        };
        Ok(match to {
            Some(to) => (out + to)?,
            None => out,
        })
    }

    /// What comes of frames `x`; `causal` with those of the chunk before in front.
    fn out(&self, x: Frames, causal: bool) -> Frames {
        let geometry = self.kernel.geometry;
        let before = if causal { geometry.taps - 1 } else { 0 };
        Frames {
            frames: geometry.frames(x.frames + before),
            channels: self.kernel.outputs,
            height: geometry.output(x.height),
            width: geometry.output(x.width),
        }
    }

    /// Floating-point operations of a pass over frames `x`, and what comes of them.
    pub(crate) fn work(&self, x: Frames, causal: bool) -> (u64, Frames) {
        let out = self.out(x, causal);
        let pixels = out.frames * out.height * out.width;
        (work::product(pixels, self.kernel.columns(), self.kernel.outputs), out)
    }

    /// What a pass over frames `x` holds above them; `causal` with those of the chunk before in front.
    pub(crate) fn cost(&self, x: Frames, causal: bool) -> Cost {
        let kernel = &self.kernel;
        let out = self.out(x, causal);
        let before = if causal { kernel.geometry.taps - 1 } else { 0 };
        let held = Frames { frames: before, ..x }.bytes();
        // What is remembered is copied while the frames before are there.
        let packing = if self.is_packed { 0 } else { kernel.packing_bytes() };
        let working = held + out.bytes() + kernel.working_bytes(out) + packing;
        Cost { out, most: held + working, held, first: held + working }
    }

    fn by_kernels(&self, past: Option<&Tensor>, x: &Tensor, to: Option<&Tensor>) -> Result<Tensor> {
        let kernel = &self.kernel;
        let (x, past) = (x.contiguous()?, past.map(Tensor::contiguous).transpose()?);
        let (batch, own, channels, height, width) = x.dims5()?;
        let before = past.as_ref().map_or(Ok(0), |past| past.dim(1))?;
        let geometry = kernel.geometry;
        let shape = (
            batch,
            geometry.frames(before + own),
            kernel.outputs,
            geometry.output(height),
            geometry.output(width),
        );
        let kept = self.held.get()?;
        let packed = match &*kept {
            Kept::AtRest(weight) => Some(kernel.pack(weight)?),
            _ => None,
        };
        let packed = match (&*kept, &packed) {
            (Kept::Convolved(packed), _) | (_, Some(packed)) => packed,
            _ => return Err(Error::input("a convolution", "one for the CPU", kept)),
        };
        let (x_storage, x_layout) = x.storage_and_layout();
        let values = numbers(&x_storage, x_layout)?;
        let past = past.as_ref().map(Tensor::storage_and_layout);
        let past = match &past {
            Some((storage, layout)) => numbers(storage, layout)?,
            None => &[],
        };
        let (bias_storage, bias_layout) = self.bias.storage_and_layout();
        let bias = numbers(&bias_storage, bias_layout)?;
        let to = to.map(Tensor::contiguous).transpose()?;
        let to = to.as_ref().map(Tensor::storage_and_layout);
        let to = to.as_ref().map(|(storage, layout)| numbers(storage, layout)).transpose()?;
        let frame = channels * height * width;
        let rows = [shape.1 * shape.2, shape.3 * shape.4];
        let mut out = vec![0f32; batch * rows[0] * rows[1]];
        for (video, out) in out.chunks_mut((rows[0] * rows[1]).max(1)).enumerate() {
            let past = past[video * before * frame..].chunks(frame.max(1)).take(before);
            let own = values[video * own * frame..].chunks(frame.max(1)).take(own);
            let frames: Vec<_> = past.chain(own).map(|n| Some(Elements::F32(n))).collect();
            let frames = KernelFrames { frames: &frames, height, width };
            let first = video * rows[0] * rows[1];
            let to = to.map(|to| Matrix::dense(&to[first..first + out.len()], rows));
            let context = kernel.arithmetic.context();
            convolve(context, (frames, packed), Some(bias), to, MatrixMut::dense(out, rows));
        }
        Ok(Tensor::from_vec(out, shape, x.device())?)
    }

    /// One output frame after the other, with its taps as channels, a band of rows at a time:
    /// candle writes out the patches of a band, which for a whole picture would be gigabytes. For
    /// GPUs, and for formats that the kernels have not.
    fn by_conv2d(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, frames, channels, height, width) = x.dims5()?;
        let geometry = self.kernel.geometry;
        let Geometry { taps, time_stride, kernel, stride, pad_before, pad_after, doubled } =
            geometry;
        let (out_height, out_width) = (geometry.output(height), geometry.output(width));
        let kept = self.held.get()?;
        let Kept::OnDevice(weight) = &*kept else {
            return Err(Error::input("a convolution", "one for this device", kept));
        };
        let weight = weight.to_dtype(x.dtype())?;
        let (outputs, depth) = weight.dims2()?;
        let weight = weight.reshape((outputs, taps * channels, kernel, kernel))?;
        let band = (PATCHES_MAX / (batch * depth * out_width)).clamp(1, out_height);
        let mut out = Vec::new();
        for frame in 0..geometry.frames(frames) {
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

/// Divides each pixel of `x [B,T,C,H,W]` by the root mean square of its channels, multiplies by
/// `gamma [C]`, and applies SiLU if `silu` is set. Source: diffusers 0.42.1 `WanRMS_norm`.
pub(crate) fn channel_norm(
    kernels: Kernels,
    x: &Tensor,
    gamma: &Tensor,
    silu: bool,
) -> Result<Tensor> {
    let (batch, frames, channels, height, width) = x.dims5()?;
    if !fused::fits(x) {
        let norm = x.sqr()?.sum_keepdim(2)?.sqrt()?.maximum(1e-12)?; // [B,T,1,H,W]
        let gamma = (gamma.reshape((1, 1, channels, 1, 1))? * (channels as f64).sqrt())?;
        let normed = x.broadcast_div(&norm)?.broadcast_mul(&gamma)?;
        return Ok(if silu { normed.silu()? } else { normed });
    }
    let (x, gamma) = (x.contiguous()?, gamma.to_vec1::<f32>()?);
    let (storage, layout) = x.storage_and_layout();
    let shape = [batch * frames * channels, height * width];
    let mut out = vec![0f32; x.elem_count()];
    let (from, to) = (Matrix::dense(numbers(&storage, layout)?, shape), out.as_mut_slice());
    wan_kernels::channel_norm(kernels, from, (&gamma, silu), MatrixMut::dense(to, shape));
    Ok(Tensor::from_vec(out, x.dims(), x.device())?)
}

/// Loads the `gamma` of a channel norm, which has `ones` trailing axes of length 1 in the files.
pub(crate) fn load_gamma(channels: usize, ones: usize, scope: Scope) -> Result<Tensor> {
    let mut shape = vec![channels];
    shape.resize(1 + ones, 1);
    Ok(scope.get(shape, "gamma")?.flatten_all()?.to_dtype(DType::F32)?)
}
