//! The change of one tensor: its formula, its shape, its numbers.

use candle_core::Tensor;

use super::file::Lora;
use crate::error::Result;
use crate::product::product;
use crate::weights::fits;

/// How a tensor is changed. Numbers are those of tensors in the LoRA's file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Formula {
    /// `factor up down`: `up [out, r]`, `down [r, in]`; convolutions have further axes, which are
    /// flattened.
    LowRank { down: usize, up: usize, factor: f64 },
    /// `factor (a b) (c d)`, the products of matrices multiplied by elements (LoHa; LyCORIS).
    Hada { first: [usize; 2], second: [usize; 2], factor: f64 },
    /// `factor kron(first, second)`, each given whole or as a product of two (LoKr; LyCORIS).
    Kron { first: Matrix, second: Matrix, factor: f64 },
    /// What is there, times `factor`.
    Diff { diff: usize, factor: f64 },
    /// What is there takes the place of the tensor, whatever the strength.
    Whole { whole: usize },
}

/// A matrix of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matrix {
    Whole(usize),
    Product(usize, usize),
}

/// The change of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) formulas: Vec<Formula>,
    /// Lengths of rows or columns of what the tensor becomes (DoRA, Liu and others 2024).
    pub(super) magnitude: Option<usize>,
}

impl Matrix {
    fn shape(self, lora: &Lora) -> [usize; 2] {
        match self {
            Self::Whole(whole) => flat(lora.shape(whole)),
            Self::Product(a, b) => [flat(lora.shape(a))[0], flat(lora.shape(b))[1]],
        }
    }

    fn numbers(self, lora: &Lora) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => matrix(lora, whole),
            Self::Product(a, b) => Ok(product(&matrix(lora, a)?, &matrix(lora, b)?)?),
        }
    }
}

impl Formula {
    /// The shape that the formula gives, and whether a tensor of shape `target` takes it.
    pub(super) fn check(&self, lora: &Lora, target: &[usize]) -> Result<(), Vec<usize>> {
        let given = match self {
            Self::LowRank { down, up, .. } => {
                vec![flat(lora.shape(*up))[0], flat(lora.shape(*down))[1]]
            }
            Self::Hada { first, second, .. } => {
                let given = Matrix::Product(first[0], first[1]).shape(lora);
                if given != Matrix::Product(second[0], second[1]).shape(lora) {
                    return Err(given.to_vec());
                }
                given.to_vec()
            }
            Self::Kron { first, second, .. } => {
                let ([a, b], [c, d]) = (first.shape(lora), second.shape(lora));
                vec![a.saturating_mul(c), b.saturating_mul(d)]
            }
            Self::Diff { diff: whole, .. } | Self::Whole { whole } => {
                let given = lora.shape(*whole);
                return if fits(given, target) { Ok(()) } else { Err(given.to_vec()) };
            }
        };
        if given == flat(target) { Ok(()) } else { Err(given) }
    }

    /// What it adds to `base`, a matrix `[out, in]` in f32, at this strength.
    fn added(&self, lora: &Lora, base: &Tensor, strength: f64) -> Result<Tensor> {
        let (change, factor) = match self {
            Self::LowRank { down, up, factor } => {
                (product(&matrix(lora, *up)?, &matrix(lora, *down)?)?, *factor)
            }
            Self::Hada { first, second, factor } => {
                let first = Matrix::Product(first[0], first[1]).numbers(lora)?;
                let second = Matrix::Product(second[0], second[1]).numbers(lora)?;
                ((first * second)?, *factor)
            }
            Self::Kron { first, second, factor } => {
                (kron(&first.numbers(lora)?, &second.numbers(lora)?)?, *factor)
            }
            Self::Diff { diff, factor } => (lora.tensor(*diff)?.reshape(base.shape())?, *factor),
            Self::Whole { .. } if strength == 0. => return Ok(base.zeros_like()?),
            Self::Whole { whole } => {
                return Ok((lora.tensor(*whole)?.reshape(base.shape())? - base)?);
            }
        };
        Ok((change * (strength * factor))?)
    }
}

impl Change {
    /// What a LoRA of this strength adds to `base`, a tensor in f32 on the CPU.
    ///
    /// # Errors
    /// As [`Lora::tensor`].
    pub(super) fn added(&self, lora: &Lora, base: &Tensor, strength: f64) -> Result<Tensor> {
        let rows = base.reshape(flat(base.dims()).as_slice())?;
        let strength_before = if self.magnitude.is_some() { 1. } else { strength };
        let mut sum = rows.zeros_like()?;
        for formula in &self.formulas {
            sum = (sum + formula.added(lora, &rows, strength_before)?)?;
        }
        if let Some(magnitude) = self.magnitude {
            let magnitude = lora.tensor(magnitude)?;
            let wanted = with_lengths(&(&rows + sum)?, &magnitude)?;
            sum = ((wanted - &rows)? * strength)?;
        }
        Ok(sum.reshape(base.shape())?)
    }
}

/// `m W / |W|`, with the lengths of rows for `m` of shape `[out]` or `[out, 1]`, of columns for
/// `[1, in]` (older LyCORIS files).
fn with_lengths(weight: &Tensor, magnitude: &Tensor) -> Result<Tensor> {
    let (rows, columns) = weight.dims2()?;
    let of_columns = magnitude.elem_count() == columns
        && (columns != rows || magnitude.dims().first() == Some(&1));
    let (axis, shape) = if of_columns { (0, (1, columns)) } else { (1, (rows, 1)) };
    let lengths = weight.sqr()?.sum_keepdim(axis)?.sqrt()?;
    Ok(weight.broadcast_mul(&magnitude.reshape(shape)?)?.broadcast_div(&lengths)?)
}

/// The Kronecker product of `[a, b]` and `[c, d]`: `[a c, b d]`.
fn kron(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let ((a, b), (c, d)) = (first.dims2()?, second.dims2()?);
    let first = first.reshape((a, 1, b, 1))?;
    let second = second.reshape((1, c, 1, d))?;
    Ok(first.broadcast_mul(&second)?.reshape((a * c, b * d))?)
}

/// A tensor of a file as a matrix.
fn matrix(lora: &Lora, number: usize) -> Result<Tensor> {
    Ok(lora.tensor(number)?.reshape(flat(lora.shape(number)).as_slice())?)
}

/// A shape with all axes after the first taken together.
pub(super) fn flat(shape: &[usize]) -> [usize; 2] {
    [shape.first().copied().unwrap_or(1), shape.iter().skip(1).product()]
}
