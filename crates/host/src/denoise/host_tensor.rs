//! A candle tensor behind a plugin's handle.

use candle_core::{DType as CandleDType, Device, Tensor as CandleTensor};
use wan_border::numbers::u32_of;
use wan_plugin_api::{DType, Error, Place, Result, TensorBody, TensorForm};

use crate::ledger::Entry;

/// A candle tensor, how it divides into frames, and its entry in the owner's ledger.
pub(crate) struct HostTensor {
    pub(crate) tensor: CandleTensor,
    /// Axis that is divided into `frames` equal parts.
    pub(crate) frame_axis: usize,
    pub(crate) frames: usize,
    /// For time signals: `tensor` is `[K, ..]`, and this names the row of each entry; entries are
    /// divided evenly among the frames.
    pub(crate) rows: Option<Vec<u32>>,
    /// For f8: what each frame was divided by.
    pub(crate) scales: Option<Vec<f32>>,
    pub(crate) entry: Entry,
}

impl TensorBody for HostTensor {
    fn form(&self) -> TensorForm {
        let elements = match &self.rows {
            Some(rows) => self.tensor.elem_count() / self.tensor.dims()[0] * rows.len(),
            None => self.tensor.elem_count(),
        };
        TensorForm::new(
            u32_of(self.frames),
            (elements / self.frames) as u64,
            dtype_of(self.tensor.dtype()),
            place_of(&self.tensor),
            self.entry.bytes(),
        )
    }
}

/// The interface's name for where a tensor lies.
pub(crate) fn place_of(tensor: &CandleTensor) -> Place {
    if tensor.device().is_cpu() { Place::Host } else { Place::Device }
}

/// The interface's name for a candle format.
pub(crate) fn dtype_of(dtype: CandleDType) -> DType {
    match dtype {
        CandleDType::BF16 => DType::BF16,
        CandleDType::F16 => DType::F16,
        CandleDType::F8E4M3 => DType::F8E4M3,
        _ => DType::F32,
    }
}

/// Candle's name for a format.
pub(crate) fn candle_dtype(dtype: DType) -> CandleDType {
    match dtype {
        DType::F32 => CandleDType::F32,
        DType::BF16 => CandleDType::BF16,
        DType::F16 => CandleDType::F16,
        DType::F8E4M3 => CandleDType::F8E4M3,
    }
}

/// `tensor` in another format, on its own device.
///
/// candle 0.11.1 asks CUDA for casts of 8-bit floats under names that its kernels do not have
/// (`f8e4m3`, `f8_e4m3`), so off the CPU those are cast in main memory.
pub(crate) fn cast(tensor: &CandleTensor, dtype: CandleDType) -> candle_core::Result<CandleTensor> {
    let is_8_bit = [tensor.dtype(), dtype].contains(&CandleDType::F8E4M3);
    if !is_8_bit || tensor.dtype() == dtype || tensor.device().is_cpu() {
        return tensor.to_dtype(dtype);
    }
    // A view would bring all of its tensor along. (With gaps it has to: candle has no strided copy
    // of 8-bit floats on CUDA either.)
    let own = if tensor.is_contiguous() { tensor.force_contiguous()? } else { tensor.clone() };
    own.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous()?.to_device(tensor.device())
}

impl HostTensor {
    /// Frames `start .. start + len` in f32, scales undone, frame axis first where rows repeat.
    pub(crate) fn frames_f32(&self, start: usize, len: usize) -> candle_core::Result<CandleTensor> {
        if let Some(rows) = &self.rows {
            let per_frame = rows.len() / self.frames;
            let wanted = &rows[start * per_frame..(start + len) * per_frame];
            let index = CandleTensor::new(wanted, self.tensor.device())?;
            return cast(&self.tensor.index_select(&index, 0)?, CandleDType::F32);
        }
        let per_frame = self.tensor.dims()[self.frame_axis] / self.frames;
        let part = self.tensor.narrow(self.frame_axis, start * per_frame, len * per_frame)?;
        let part = cast(&part, CandleDType::F32)?;
        let Some(scales) = &self.scales else { return Ok(part) };
        let scaled: Vec<CandleTensor> = (0..len)
            .map(|f| {
                let frame = part.narrow(self.frame_axis, f * per_frame, per_frame)?;
                frame.affine(scales[start + f] as f64, 0.0)
            })
            .collect::<candle_core::Result<_>>()?;
        CandleTensor::cat(&scaled, self.frame_axis)
    }

    /// Axis that [`frames_f32`](Self::frames_f32) divides along.
    pub(crate) fn axis(&self) -> usize {
        if self.rows.is_some() { 0 } else { self.frame_axis }
    }

    /// Shape of [`to_f32`](Self::to_f32).
    pub(crate) fn shape_f32(&self) -> Vec<usize> {
        let mut shape = self.tensor.dims().to_vec();
        if let Some(rows) = &self.rows {
            shape[0] = rows.len();
        }
        shape
    }

    /// The whole tensor in f32, scales undone.
    pub(crate) fn to_f32(&self) -> candle_core::Result<CandleTensor> {
        self.frames_f32(0, self.frames)
    }

    /// Refuses a tensor of another form.
    pub(crate) fn same_form(&self, other: &Self, operation: &str) -> Result<()> {
        let (a, b) = (self.form(), other.form());
        if a.same_shape(b) {
            return Ok(());
        }
        Err(Error::failed(format!(
            "{operation}: {} frames of {} elements and {} frames of {}",
            a.frames, a.frame_elements, b.frames, b.frame_elements
        )))
    }
}
