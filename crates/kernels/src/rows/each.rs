//! One row after the other, on all threads.

use rayon::prelude::*;

use crate::matrix::{ElementsMut, Matrix, MatrixMut};
use crate::path::Kernels;
use crate::shared::Shared;
use crate::simd::dispatch::Work;
use crate::simd::unit::Unit;

/// What is done to a row.
pub(crate) trait RowWork: Copy + Sync {
    /// Row `row`, whose numbers `x` are, widened; they are stored as this leaves them. Has to be
    /// `#[inline(always)]`.
    fn row(self, row: usize, x: &mut [f32]);
}

/// Numbers that a task works on at least: fewer are not worth a thread.
const GRAIN: usize = 1 << 14;

/// Numbers of a row that are held on the stack; a longer row is held in a buffer.
const HELD: usize = 1 << 13;

/// Writes to `out` what `work` makes of the rows of `x`, or of those of `out` itself.
#[track_caller]
pub(crate) fn each_row(kernels: Kernels, x: Option<Matrix>, out: MatrixMut, work: impl RowWork) {
    let (rows, columns) = (out.rows(), out.columns());
    if let Some(x) = &x {
        assert_eq!([x.rows(), x.columns()], [rows, columns], "rows in and rows out");
    }
    if rows == 0 || columns == 0 {
        return;
    }
    let out = Shared::new(out);
    let at_once = GRAIN.div_ceil(columns);
    (0..rows.div_ceil(at_once)).into_par_iter().for_each(|task| {
        let first = task * at_once;
        let rows = first..(first + at_once).min(rows);
        kernels.run(Rows { rows, columns, x: x.as_ref(), out: &out, work });
    });
}

struct Rows<'a, W> {
    rows: std::ops::Range<usize>,
    columns: usize,
    x: Option<&'a Matrix<'a>>,
    out: &'a Shared<'a>,
    work: W,
}

impl<W: RowWork> Work for Rows<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<U: Unit>(self, _: U) {
        let mut held = [0f32; HELD];
        let mut longer = if self.columns > HELD { vec![0.; self.columns] } else { Vec::new() };
        for row in self.rows.clone() {
            #[expect(unsafe_code, reason = "a part of a matrix that other tasks write too")]
            // SAFETY: no other task has this row.
            let mut out = unsafe { self.out.part(row, 0, self.columns) };
            let x = self.x.map(|x| x.part(row, 0, self.columns));
            if let ElementsMut::F32(numbers) = &mut out {
                // In place: one pass over memory.
                if let Some(x) = x {
                    x.widen_to(numbers);
                }
                self.work.row(row, numbers);
                continue;
            }
            let numbers = match self.columns > HELD {
                true => &mut longer[..],
                false => &mut held[..self.columns],
            };
            x.unwrap_or(out.now()).widen_to(numbers);
            self.work.row(row, numbers);
            out.round_from(numbers);
        }
    }
}
