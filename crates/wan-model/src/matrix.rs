//! A matrix of a layer, at rest in the format of its file.
//!
//! On the CPU a product widens a panel of rows at a time, so a quantised, 8-bit or 16-bit matrix takes
//! the memory that it takes in its file. A panel's numbers, and so the product's, are those of the
//! widened matrix, to the bit. On a GPU the matrix is widened when it is loaded.

use std::ops::{Deref, Range};
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::Result;
use crate::fused;
use crate::product::{PanelProduct, widened_product};
use crate::weights::{Scope, Slot, Weight, panel_rows};

/// Numbers that one thread rounds at a time.
const AT_A_TIME: usize = 1 << 14;

/// A matrix `[out, in]`.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    held: Held,
    /// The format of the operands of a product, to which the matrix's numbers are rounded.
    compute: DType,
    shape: (usize, usize),
}

#[derive(Clone, Debug)]
enum Held {
    /// `[out, in]`, in the format of the file, or in `compute` where that is narrower.
    AtRest(Weight),
    /// The same, read when its turn comes.
    InTurn(Arc<Slot>),
    /// `[in, out]`, contiguous, in `compute`.
    OnDevice(Tensor),
}

/// The numbers of a matrix while it is used.
enum There<'m> {
    OnCpu(OrShared<'m>),
    OnDevice(Tensor),
}

/// A weight that a matrix holds, or one that is there for its turn.
enum OrShared<'m> {
    Borrowed(&'m Weight),
    Shared(Arc<Weight>),
}

impl Deref for OrShared<'_> {
    type Target = Weight;

    fn deref(&self) -> &Weight {
        match self {
            Self::Borrowed(weight) => weight,
            Self::Shared(weight) => weight,
        }
    }
}

impl Matrix {
    /// Takes a weight of any shape as a matrix: its first axis, and all others together.
    pub(crate) fn new(weight: Weight, compute: DType, device: &Device) -> Result<Self> {
        let shape = weight.matrix_shape();
        if !device.is_cpu() {
            let held = Held::OnDevice(on_device(&weight, compute, device)?);
            return Ok(Self { held, compute, shape });
        }
        Ok(Self { held: Held::AtRest(at_rest(weight, compute)?), compute, shape })
    }

    /// Outputs and inputs.
    pub(crate) fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The format of the operands of a product.
    pub(crate) fn compute(&self) -> DType {
        self.compute
    }

    /// Bytes that it holds, in and out of its turn.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.held {
            Held::AtRest(weight) => weight.bytes(),
            Held::InTurn(_) => 0,
            Held::OnDevice(whole) => (whole.elem_count() * whole.dtype().size_in_bytes()) as u64,
        }
    }

    /// `x W^T` for `x [rows, in]`, which is rounded to [`compute`](Self::compute). On the CPU the sums
    /// and the product `[rows, out]` are f32.
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_dtype(self.compute)?;
        let weight = match self.held()? {
            There::OnDevice(whole) => return Ok(widened_product(&x, &whole)?),
            There::OnCpu(weight) => weight,
        };
        let (x, (outputs, inputs)) = (x.to_dtype(DType::F32)?.contiguous()?, self.shape);
        let rows = x.dim(0)?;
        let (storage, layout) = x.storage_and_layout();
        let x = fused::slice(fused::cpu(&storage)?, layout)?;
        let mut product = PanelProduct::new(x, self.shape);
        match &*weight {
            Weight::Dense(wide) if wide.dtype() == DType::F32 => {
                let (storage, layout) = wide.storage_and_layout();
                let all = fused::slice(fused::cpu(&storage)?, layout)?;
                for panel in panels(self.shape) {
                    product.add(&all[panel.start * inputs..panel.end * inputs], panel.start);
                }
            }
            narrow => {
                let mut numbers = Vec::new();
                for panel in panels(self.shape) {
                    numbers.resize(panel.len() * inputs, 0.);
                    self.widen(narrow, panel.clone(), &mut numbers)?;
                    product.add(&numbers, panel.start);
                }
            }
        }
        Ok(Tensor::from_vec(product.finish(), (rows, outputs), &Device::Cpu)?)
    }

    /// All numbers in f32, rounded to [`compute`](Self::compute), `[out, in]`.
    pub(crate) fn wide(&self) -> Result<Tensor> {
        let weight = match self.held()? {
            There::OnDevice(whole) => return Ok(whole.t()?.contiguous()?),
            There::OnCpu(weight) => weight,
        };
        let mut numbers = vec![0.; self.shape.0 * self.shape.1];
        for panel in panels(self.shape) {
            let place = panel.start * self.shape.1..panel.end * self.shape.1;
            self.widen(&weight, panel, &mut numbers[place])?;
        }
        Ok(Tensor::from_vec(numbers, self.shape, &Device::Cpu)?)
    }

    /// Rows `numbers` in f32, `[numbers, in]`.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        let (weight, width) = match self.held()? {
            There::OnDevice(whole) => {
                let numbers = Tensor::new(numbers, whole.device())?;
                return Ok(whole.index_select(&numbers, 1)?.t()?.contiguous()?);
            }
            There::OnCpu(weight) => (weight, self.shape.1),
        };
        let mut out = vec![0.; numbers.len() * width];
        for (number, out) in numbers.iter().zip(out.chunks_mut(width.max(1))) {
            let row = *number as usize;
            self.widen(&weight, row..row + 1, out)?;
        }
        Ok(Tensor::from_vec(out, (numbers.len(), width), &Device::Cpu)?)
    }

    fn held(&self) -> Result<There<'_>> {
        Ok(match &self.held {
            Held::AtRest(weight) => There::OnCpu(OrShared::Borrowed(weight)),
            Held::InTurn(slot) => match slot.get()? {
                weight if !weight.is_on_cpu() => There::OnDevice(weight.wide()?),
                weight => There::OnCpu(OrShared::Shared(weight)),
            },
            Held::OnDevice(whole) => There::OnDevice(whole.clone()),
        })
    }

    /// Writes rows of `weight` to `numbers`, in f32, rounded to [`compute`](Self::compute).
    fn widen(&self, weight: &Weight, rows: Range<usize>, numbers: &mut [f32]) -> Result<()> {
        weight.widen_rows(rows, numbers)?;
        let is_exact = matches!(weight, Weight::Dense(tensor) if tensor.dtype() == self.compute);
        if !is_exact {
            numbers.par_chunks_mut(AT_A_TIME).for_each(|part| round(part, self.compute));
        }
        Ok(())
    }
}

/// Rounds numbers to those of another format.
pub(crate) fn round(numbers: &mut [f32], to: DType) {
    match to {
        DType::BF16 => numbers.iter_mut().for_each(|n| *n = bf16::from_f32(*n).to_f32()),
        DType::F16 => numbers.iter_mut().for_each(|n| *n = f16::from_f32(*n).to_f32()),
        _ => {}
    }
}

/// A weight as it is held on a GPU: `[in, out]`, contiguous.
fn on_device(weight: &Weight, compute: DType, device: &Device) -> Result<Tensor> {
    let whole = weight.to_tensor(compute, device)?.reshape(weight.matrix_shape())?;
    Ok(whole.t()?.contiguous()?)
}

/// A weight as it is held on the CPU for products in `compute`.
fn at_rest(weight: Weight, compute: DType) -> Result<Weight> {
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

impl Scope {
    /// The weight `name` of this shape as a matrix: its first axis, and all others together. Products
    /// are computed in this format, on this device. It counts as handed out.
    ///
    /// # Errors
    /// As [`Source::get`](crate::weights::Source::get).
    pub(crate) fn matrix(&self, shape: impl Into<Shape>, name: &str) -> Result<Matrix> {
        let (shape, compute) = (shape.into(), self.dtype());
        let Some(turn) = self.turn() else {
            let matrix = Matrix::new(self.weight(shape, name)?, compute, self.device())?;
            self.count(matrix.bytes());
            return Ok(matrix);
        };
        let there = self.at_rest(shape.clone(), name)?;
        let (scope, name) = (self.out_of_turn(), name.to_owned());
        let (rows, columns) = there.shape;
        let bytes = match self.device().is_cpu() {
            true => there.bytes(compute),
            false => (rows * columns * compute.size_in_bytes()) as u64,
        };
        let read = move || {
            let weight = scope.weight(shape.clone(), &name)?;
            match scope.device() {
                Device::Cpu => at_rest(weight, compute),
                device => Ok(Weight::Dense(on_device(&weight, compute, device)?)),
            }
        };
        let slot = Arc::new(Slot::new(bytes, read));
        turn.add(slot.clone());
        Ok(Matrix { held: Held::InTurn(slot), compute, shape: there.shape })
    }
}

/// The panels of a matrix of this shape, as ranges of its rows.
fn panels((rows, columns): (usize, usize)) -> impl Iterator<Item = Range<usize>> {
    let at_a_time = panel_rows(columns);
    (0..rows).step_by(at_a_time).map(move |start| start..(start + at_a_time).min(rows))
}

#[cfg(test)]
mod tests;
