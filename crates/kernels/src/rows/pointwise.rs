//! Operations on each number.

use crate::epilogue::{Activation, AddTo, Epilogue, RowTable};
use crate::matrix::{ElementsMut, Matrix, MatrixMut};
use crate::path::Kernels;
use crate::rows::each::{RowWork, each_row};

/// `out = activation(x)`; `x` is `None` for what `out` holds.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn activate(kernels: Kernels, x: Option<Matrix>, activation: Activation, out: MatrixMut) {
    each_row(kernels, x, out, Activate(activation));
}

#[derive(Clone, Copy)]
struct Activate(Activation);

impl RowWork for Activate {
    #[inline(always)]
    fn row(self, _: usize, x: &mut [f32]) {
        self.0.apply(x);
    }
}

/// `out = residual + gate branch`, with one row of `gate` for each frame; without a gate, the sum.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn add_gated(
    kernels: Kernels,
    residual: Matrix,
    branch: Matrix,
    gate: Option<RowTable>,
    out: MatrixMut,
) {
    let epilogue = Epilogue { add: Some(AddTo { to: Some(residual), gate }), ..Default::default() };
    epilogue.check(out.rows(), out.columns());
    each_row(kernels, Some(branch), out, AddGated(epilogue));
}

#[derive(Clone, Copy)]
struct AddGated<'a>(Epilogue<'a>);

impl RowWork for AddGated<'_> {
    #[inline(always)]
    fn row(self, row: usize, x: &mut [f32]) {
        self.0.add_to((row, 0), x, &ElementsMut::F32(&mut []));
    }
}
