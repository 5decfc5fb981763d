//! The change of one tensor with its numbers in memory. What it adds is computed for some rows at a
//! time, so that it can stay beside a weight that is widened by panels.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::change::{Change, Formula, Matrix, flat};
use super::file::Lora;
use crate::error::{Error, Result};
use crate::product::{product, product_alone};
use crate::weights::{RowChange, Weight, panel_rows};

/// What a LoRA of some strength adds to one weight.
#[derive(Debug)]
pub(super) struct Loaded {
    terms: Vec<Term>,
    magnitude: Option<Magnitude>,
    /// Of a change with magnitudes; elsewhere it is in the factors of the terms.
    strength: f32,
    columns: usize,
}

/// Matrices in the format of the file, those that are read for every panel in f32; see [`Formula`].
/// Each has its factor, strength included.
#[derive(Debug)]
enum Term {
    LowRank { up: Tensor, down: Tensor, factor: f64 },
    Hada { first: [Tensor; 2], second: [Tensor; 2], factor: f64 },
    Kron { first: Tensor, second: Tensor, factor: f64 },
    Diff { diff: Tensor, factor: f64 },
    Whole { whole: Tensor },
}

/// What the weight's rows or columns are scaled to (DoRA, Liu and others 2024).
#[derive(Debug)]
enum Magnitude {
    /// Lengths of the rows, `[out]`.
    Rows(Vec<f32>),
    /// Lengths of the columns, over what they are with the change, `[in]`.
    Columns(Vec<f32>),
}

impl Loaded {
    /// Reads the numbers of a change of `base`.
    ///
    /// # Errors
    /// As [`Lora::tensor`].
    pub(super) fn new(lora: &Lora, change: &Change, base: &Weight, strength: f64) -> Result<Self> {
        let (rows, columns) = base.matrix_shape();
        let before = if change.magnitude.is_some() { 1. } else { strength };
        let terms = change.formulas.iter().filter_map(|formula| Term::read(lora, formula, before));
        let terms = terms.collect::<Result<_>>()?;
        #[allow(clippy::cast_possible_truncation, reason = "changes are added in f32")]
        let strength = strength as f32;
        let mut loaded = Self { terms, magnitude: None, strength, columns };
        let Some(number) = change.magnitude else { return Ok(loaded) };
        let lengths = lora.tensor(number)?;
        // `[out]` or `[out, 1]`; `[1, in]` in older LyCORIS files.
        let of_columns = lengths.elem_count() == columns
            && (columns != rows || lengths.dims().first() == Some(&1));
        let lengths = lengths.flatten_all()?.to_vec1::<f32>()?;
        loaded.magnitude = Some(match of_columns {
            true => Magnitude::Columns(loaded.column_factors(base, &lengths)?),
            false => Magnitude::Rows(lengths),
        });
        Ok(loaded)
    }

    /// `lengths` over the lengths of the changed columns.
    fn column_factors(&self, base: &Weight, lengths: &[f32]) -> Result<Vec<f32>> {
        let (rows, columns) = base.matrix_shape();
        let at_a_time = panel_rows(columns);
        let (mut squares, mut numbers) = (vec![0f32; columns], Vec::new());
        for start in (0..rows).step_by(at_a_time) {
            let panel = start..(start + at_a_time).min(rows);
            numbers.resize(panel.len() * columns, 0.);
            base.widen_rows(panel.clone(), &mut numbers)?;
            let added = self.terms_of(panel, &numbers)?;
            for (row, added) in numbers.chunks(columns).zip(added.chunks(columns)) {
                for ((square, number), added) in squares.iter_mut().zip(row).zip(added) {
                    *square += (number + added) * (number + added);
                }
            }
        }
        Ok(lengths.iter().zip(squares).map(|(length, square)| length / square.sqrt()).collect())
    }

    /// The sum of all terms, before magnitudes.
    fn terms_of(&self, rows: Range<usize>, base: &[f32]) -> Result<Vec<f32>> {
        let mut sum = vec![0f32; base.len()];
        for term in &self.terms {
            let (added, factor) = term.added(rows.clone(), base, self.columns)?;
            sum.iter_mut().zip(added).for_each(|(sum, added)| *sum += added * factor);
        }
        Ok(sum)
    }
}

impl RowChange for Loaded {
    fn added(&self, rows: Range<usize>, base: &[f32]) -> Result<Vec<f32>> {
        if base.len() != rows.len() * self.columns {
            let expected = format!("rows of {}", self.columns);
            return Err(Error::input("rows that a LoRA changes", expected, base.len()));
        }
        let mut added = self.terms_of(rows.clone(), base)?;
        let Some(magnitude) = &self.magnitude else { return Ok(added) };
        let each = added.chunks_mut(self.columns).zip(base.chunks(self.columns));
        for ((added, base), row) in each.zip(rows) {
            let sums = added.iter().zip(base).map(|(added, base)| added + base);
            let of_row = match magnitude {
                Magnitude::Rows(lengths) => lengths[row] / sums.map(|n| n * n).sum::<f32>().sqrt(),
                Magnitude::Columns(_) => 0.,
            };
            for (column, (added, base)) in added.iter_mut().zip(base).enumerate() {
                let factor = match magnitude {
                    Magnitude::Rows(_) => of_row,
                    Magnitude::Columns(factors) => factors[column],
                };
                *added = ((*added + base) * factor - base) * self.strength;
            }
        }
        Ok(added)
    }

    fn bytes(&self) -> u64 {
        let magnitude = match &self.magnitude {
            Some(Magnitude::Rows(numbers) | Magnitude::Columns(numbers)) => 4 * numbers.len(),
            None => 0,
        };
        magnitude as u64 + self.terms.iter().map(Term::bytes).sum::<u64>()
    }
}

impl Term {
    /// None for one that changes nothing.
    fn read(lora: &Lora, formula: &Formula, strength: f64) -> Option<Result<Self>> {
        if matches!(formula, Formula::Whole { .. }) && strength == 0. {
            return None;
        }
        Some(Self::of(lora, formula, strength))
    }

    fn of(lora: &Lora, formula: &Formula, strength: f64) -> Result<Self> {
        let read = |number: usize| matrix(lora, number);
        Ok(match *formula {
            Formula::LowRank { down, up, factor } => {
                let (up, down) = (read(up)?, wide(&read(down)?)?);
                Self::LowRank { up, down, factor: strength * factor }
            }
            Formula::Hada { first, second, factor } => Self::Hada {
                first: [read(first[0])?, wide(&read(first[1])?)?],
                second: [read(second[0])?, wide(&read(second[1])?)?],
                factor: strength * factor,
            },
            Formula::Kron { first, second, factor } => {
                let whole = |matrix| match matrix {
                    Matrix::Whole(whole) => wide(&read(whole)?),
                    Matrix::Product(a, b) => Ok(product(&wide(&read(a)?)?, &wide(&read(b)?)?)?),
                };
                let (first, second) = (whole(first)?, whole(second)?);
                Self::Kron { first, second, factor: strength * factor }
            }
            Formula::Diff { diff, factor } => {
                Self::Diff { diff: read(diff)?, factor: strength * factor }
            }
            Formula::Whole { whole } => Self::Whole { whole: read(whole)? },
        })
    }

    /// What it adds to rows `rows`, which are `base` without it, and the factor of that. It is computed
    /// on this thread.
    fn added(&self, rows: Range<usize>, base: &[f32], columns: usize) -> Result<(Vec<f32>, f32)> {
        let of_rows = |matrix: &Tensor| wide(&matrix.narrow(0, rows.start, rows.len())?);
        let flat = |whole: &Tensor| -> Result<Vec<f32>> {
            Ok(of_rows(&whole.reshape(((), columns))?)?.flatten_all()?.to_vec1()?)
        };
        let of = |a: &Tensor, b: &Tensor| -> Result<Vec<f32>> {
            Ok(product_alone(&of_rows(a)?, b)?.flatten_all()?.to_vec1()?)
        };
        let (change, factor) = match self {
            Self::LowRank { up, down, factor } => (of(up, down)?, factor),
            Self::Hada { first: [a, b], second: [c, d], factor } => {
                let pairs = of(a, b)?.into_iter().zip(of(c, d)?);
                (pairs.map(|(first, second)| first * second).collect(), factor)
            }
            Self::Kron { first, second, factor } => (kron(first, second, rows)?, factor),
            Self::Diff { diff, factor } => (flat(diff)?, factor),
            Self::Whole { whole } => {
                let pairs = flat(whole)?.into_iter().zip(base);
                return Ok((pairs.map(|(whole, base)| whole - base).collect(), 1.));
            }
        };
        #[allow(clippy::cast_possible_truncation, reason = "changes are added in f32")]
        Ok((change, *factor as f32))
    }

    fn bytes(&self) -> u64 {
        let bytes = |tensors: &[&Tensor]| -> usize {
            tensors.iter().map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum()
        };
        let all = match self {
            Self::LowRank { up, down, .. } => bytes(&[up, down]),
            Self::Hada { first: [a, b], second: [c, d], .. } => bytes(&[a, b, c, d]),
            Self::Kron { first, second, .. } => bytes(&[first, second]),
            Self::Diff { diff: whole, .. } | Self::Whole { whole } => bytes(&[whole]),
        };
        all as u64
    }
}

fn wide(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_dtype(DType::F32)?)
}

/// Rows of the Kronecker product of `[a, b]` and `[c, d]`, which is `[a c, b d]`.
fn kron(first: &Tensor, second: &Tensor, rows: Range<usize>) -> Result<Vec<f32>> {
    let ((_, b), (c, d)) = (first.dims2()?, second.dims2()?);
    let (first, second) = (first.to_vec2::<f32>()?, second.to_vec2::<f32>()?);
    let mut numbers = Vec::with_capacity(rows.len() * b * d);
    for row in rows.clone() {
        for left in &first[row / c] {
            numbers.extend(second[row % c].iter().map(|right| left * right));
        }
    }
    Ok(numbers)
}

/// A tensor of a file as a matrix, in the format of the file.
fn matrix(lora: &Lora, number: usize) -> Result<Tensor> {
    Ok(lora.as_stored(number)?.reshape(flat(lora.shape(number)).as_slice())?)
}
