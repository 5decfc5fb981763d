//! What becomes of a product before it is stored.

use crate::functions::{gelu_tanh, silu};
use crate::matrix::{ElementsMut, Matrix};

/// `activation(x W^T + bias)`, or that times a gate, added to something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[n]`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// What the result is added to.
    pub add: Option<AddTo<'a>>,
}

/// A function of each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// GELU in its tanh form.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
}

impl Activation {
    #[inline(always)]
    pub(crate) fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::GeluTanh => numbers.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            Self::Silu => numbers.iter_mut().for_each(|x| *x = silu(*x)),
        }
    }
}

/// `to + gate y`.
#[derive(Clone, Copy, Debug)]
pub struct AddTo<'a> {
    /// What it is added to, `[m, n]`; `None` for what the output holds.
    pub to: Option<Matrix<'a>>,
    /// The factor of each row; `None` for one.
    pub gate: Option<RowTable<'a>>,
}

/// One row of numbers for each group of rows of another matrix: all tokens of a frame share a row
/// of shifts, scales or gates, and frames of one noise level share it too.
#[derive(Clone, Copy, Debug)]
pub struct RowTable<'a> {
    rows: Matrix<'a>,
    index: &'a [u32],
    group: usize,
    first: usize,
}

impl<'a> RowTable<'a> {
    /// Row `r` of the other matrix uses row `index[(first + r) / group]` of `rows`: `group` rows
    /// are one entry of the index, and `first` is the place of row 0 among the tokens of the video.
    ///
    /// # Panics
    ///
    /// If `group` is 0, or if the index names a row that is not there.
    #[track_caller]
    pub fn new(rows: Matrix<'a>, index: &'a [u32], group: usize, first: usize) -> Self {
        assert!(group > 0, "groups of no rows");
        let beyond = index.iter().find(|row| **row as usize >= rows.rows());
        assert!(beyond.is_none(), "row {beyond:?} of {}", rows.rows());
        Self { rows, index, group, first }
    }

    /// The same row for all.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn one(row: &'a [f32]) -> Self {
        Self::new(Matrix::dense(row, [1, row.len()]), &[0], usize::MAX, 0)
    }

    /// `len` numbers from number `start` on, for row `row` of the other matrix.
    #[inline(always)]
    pub(crate) fn part(&self, row: usize, start: usize, len: usize) -> crate::matrix::Elements<'a> {
        let entry = (self.first + row) / self.group;
        self.rows.part(self.index[entry] as usize, start, len)
    }

    #[track_caller]
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert_eq!(self.rows.columns(), columns, "columns of a row table");
        let entries = rows.checked_sub(1).map_or(0, |last| (self.first + last) / self.group + 1);
        assert!(entries <= self.index.len(), "{entries} entries of {}", self.index.len());
    }
}

/// Numbers that are worked on at once: a few vectors.
const BLOCK: usize = 64;

impl Epilogue<'_> {
    #[track_caller]
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), columns, "numbers of the bias");
        }
        let Some(AddTo { to, gate }) = self.add else { return };
        if let Some(to) = to {
            assert_eq!([to.rows(), to.columns()], [rows, columns], "what the product is added to");
        }
        if let Some(gate) = gate {
            gate.check(rows, columns);
        }
    }

    /// Finishes numbers of row `row`, from number `start` on, and writes them to `out`.
    #[inline(always)]
    pub(crate) fn finish(
        &self,
        (row, start): (usize, usize),
        sums: &mut [f32],
        out: &mut ElementsMut,
    ) {
        if let Some(bias) = self.bias {
            let bias = &bias[start..start + sums.len()];
            sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
        self.activation.apply(sums);
        self.add_to((row, start), sums, out);
        out.round_from(sums);
    }
    /// The last step: `to + gate sums`.
    #[inline(always)]
    pub(crate) fn add_to(&self, (row, start): (usize, usize), sums: &mut [f32], out: &ElementsMut) {
        let Some(AddTo { to, gate }) = &self.add else { return };
        let mut other = [0.; BLOCK];
        for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
            let (own, len) = (block * BLOCK, sums.len());
            let other = &mut other[..len];
            if let Some(gate) = gate {
                gate.part(row, start + own, len).widen_to(other);
                sums.iter_mut().zip(&*other).for_each(|(sum, gate)| *sum *= gate);
            }
            let to = match to {
                Some(to) => to.part(row, start + own, len),
                None => out.now().part(own, len),
            };
            to.widen_to(other);
            sums.iter_mut().zip(&*other).for_each(|(sum, to)| *sum += to);
        }
    }
}
