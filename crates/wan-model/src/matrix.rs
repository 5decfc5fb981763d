//! The product with a matrix of a layer.
//!
//! On the CPU a quantised, 8-bit or changed matrix takes the memory that it takes in its file, and is
//! widened while a product reads it; floats are packed in the order of the products. Either way the
//! numbers, and so the product's bits, are those of the widened matrix. On a GPU the matrix is widened
//! when it is loaded.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{DType, Shape, Tensor, bail};
use half::f16;
use wan_kernels::{Epilogue, MatrixMut, Panels, multiply};

use crate::arithmetic::{Arithmetic, precision};
use crate::error::{Error, Result};
use crate::product::widened_product;
use crate::weights::{Holding, Kept, Scope, Weight};

/// A matrix `[out, in]`.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    held: Holding,
    /// The format of the operands of a product, to which the matrix's numbers are rounded.
    compute: DType,
    shape: (usize, usize),
    arithmetic: Arithmetic,
}

impl Matrix {
    /// Outputs and inputs.
    pub(crate) fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// `epilogue(x W^T)` on the CPU, for `x [rows, in]`.
    ///
    /// # Errors
    /// If its turn comes and it cannot be read.
    pub(crate) fn multiply(
        &self,
        x: wan_kernels::Matrix,
        epilogue: &Epilogue,
        out: MatrixMut,
    ) -> Result<()> {
        let (kept, context) = (self.held.get()?, self.arithmetic.context());
        match &*kept {
            Kept::Packed(packed) => multiply(context, x, &packed.into(), epilogue, out),
            Kept::AtRest(weight) => {
                let panels = Widening { weight, compute: self.compute, failed: OnceLock::new() };
                let precision = precision(self.compute);
                let widened = wan_kernels::Weight::Widened { panels: &panels, precision };
                multiply(context, x, &widened, epilogue, out);
                if let Some(error) = panels.failed.into_inner() {
                    return Err(error);
                }
            }
            Kept::Convolved(_) | Kept::OnDevice(_) => {
                return Err(Error::input("a matrix", "one for products on the CPU", kept));
            }
        }
        Ok(())
    }

    /// `x W^T` on a GPU, for `x [rows, in]`, which is rounded to the format of the products.
    pub(crate) fn product_on_device(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let kept = self.held.get().map_err(Error::through_candle)?;
        let Kept::OnDevice(whole) = &*kept else { bail!("a matrix for products on the CPU") };
        widened_product(&x.to_dtype(self.compute)?, whole)
    }
}

/// A weight that is widened while a product reads it.
struct Widening<'w> {
    weight: &'w Weight,
    compute: DType,
    /// The first failure.
    failed: OnceLock<Error>,
}

impl Panels for Widening<'_> {
    fn shape(&self) -> [usize; 2] {
        self.weight.matrix_shape().into()
    }

    fn widen(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        if let Err(error) = self.weight.widen_part(rows, columns, out) {
            out.fill(f32::NAN);
            self.failed.get_or_init(|| error);
        }
        if self.compute == DType::F16 {
            out.iter_mut().for_each(|number| *number = f16::from_f32(*number).to_f32());
        }
    }

    fn at_once(&self) -> usize {
        if self.weight.is_changed() { self.weight.matrix_shape().1 } else { 256 }
    }
}

impl Scope {
    /// The weight `name` of this shape as a matrix: its first axis, and all others together. Products
    /// are computed in this format, on this device. It counts as handed out.
    ///
    /// # Errors
    /// As [`Source::get`](crate::weights::Source::get).
    pub(crate) fn matrix(&self, shape: impl Into<Shape>, name: &str) -> Result<Matrix> {
        let (shape, compute) = (shape.into(), self.dtype());
        let rows = shape.dims().first().copied().unwrap_or(1);
        let columns = shape.dims().iter().skip(1).product();
        let (arithmetic, device) = (self.arithmetic().clone(), self.device().clone());
        let on_cpu = device.is_cpu();
        let bytes = |there: &crate::weights::AtRest| match on_cpu {
            true => there.bytes(compute),
            false => (rows * columns * compute.size_in_bytes()) as u64,
        };
        let keep = move |weight| Kept::matrix(weight, compute, &arithmetic, &device);
        let held = self.hold((shape, name), bytes, keep)?;
        Ok(Matrix { held, compute, shape: (rows, columns), arithmetic: self.arithmetic().clone() })
    }
}

#[cfg(test)]
mod tests;
