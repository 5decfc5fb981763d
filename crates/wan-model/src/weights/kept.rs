//! A matrix as a layer keeps it.

use candle_core::{DType, Device, Tensor};
use wan_kernels::{Matrix, PackedConv, PackedWeight};

use super::weight::{Weight, panel_rows};
use crate::arithmetic::{self, Arithmetic, elements, is_packed};
use crate::error::Result;

/// The numbers of a matrix in memory.
#[derive(Debug)]
pub(crate) enum Kept {
    /// In the order and the format that products read, on the CPU.
    Packed(PackedWeight),
    /// In the format of the file, `[out, in]`, on the CPU: widened while a product reads it.
    AtRest(Weight),
    /// As convolutions read it, on the CPU.
    Convolved(PackedConv),
    /// In the format of the products, on a GPU: `[in, out]`, contiguous.
    OnDevice(Tensor),
}

impl Kept {
    /// Keeps a weight of any shape as a matrix, for products in `compute`: its first axis, and all
    /// others together. Floats that are as wide as products read them are packed.
    ///
    /// # Errors
    /// If the weight is of another count than its shape, or the device fails.
    pub(crate) fn matrix(
        weight: Weight,
        compute: DType,
        arithmetic: &Arithmetic,
        device: &Device,
    ) -> Result<Self> {
        let shape = weight.matrix_shape();
        if !device.is_cpu() {
            let whole = weight.to_tensor(compute, device)?.reshape(shape)?;
            return Ok(Self::OnDevice(whole.t()?.contiguous()?));
        }
        let floats = match &weight {
            Weight::Changed(changed) => &*changed.base,
            other => other,
        };
        match floats {
            // Changes are added before the sum is rounded, once.
            Weight::Dense(tensor) if is_packed(tensor.dtype(), compute) => {
                Ok(Self::Packed(packed(&weight, compute, arithmetic)?))
            }
            _ => Ok(Self::AtRest(at_rest(weight, compute)?)),
        }
    }

    /// Bytes that its numbers take.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Packed(packed) => packed.bytes() as u64,
            Self::AtRest(weight) => weight.bytes(),
            Self::Convolved(packed) => packed.bytes() as u64,
            Self::OnDevice(whole) => (whole.elem_count() * whole.dtype().size_in_bytes()) as u64,
        }
    }
}

/// Packs a weight; what kernels do not read, some rows at a time.
fn packed(weight: &Weight, compute: DType, arithmetic: &Arithmetic) -> Result<PackedWeight> {
    let (rows, columns) = weight.matrix_shape();
    let precision = arithmetic::precision(compute);
    if let Weight::Dense(tensor) = weight {
        let (storage, layout) = tensor.storage_and_layout();
        if let Ok(elements) = elements(&storage, layout) {
            let whole = Matrix::dense(elements, [rows, columns]);
            return Ok(PackedWeight::new(arithmetic.kernels(), whole, precision));
        }
    }
    let mut packed = PackedWeight::zeros([rows, columns], precision);
    let (mut packer, mut numbers) = (packed.packer(), Vec::new());
    let at_a_time = panel_rows(columns);
    for start in (0..rows).step_by(at_a_time) {
        let panel = start..(start + at_a_time).min(rows);
        numbers.resize(panel.len() * columns, 0f32);
        weight.widen_rows(panel.clone(), &mut numbers)?;
        let panel = Matrix::dense(&*numbers, [panel.len(), columns]);
        packer.rows(arithmetic.kernels(), start, panel);
    }
    Ok(packed)
}

/// A weight as it is held on the CPU for products in `compute`.
pub(crate) fn at_rest(weight: Weight, compute: DType) -> Result<Weight> {
    let is_wider = |dtype: DType| dtype.size_in_bytes() > compute.size_in_bytes();
    Ok(match weight {
        Weight::Dense(tensor) if is_wider(tensor.dtype()) => {
            Weight::Dense(tensor.to_dtype(compute)?)
        }
        Weight::Dense(tensor) => Weight::Dense(tensor.contiguous()?),
        whole if whole.has_whole_rows() => whole,
        broken => Weight::Dense(broken.to_tensor(compute, &Device::Cpu)?),
    })
}
