//! The change of one tensor: its formula and its shape.

use super::file::Lora;
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
}

impl Change {
    /// Bytes of its numbers in memory: what is read for every panel of a weight and the two factors of
    /// a Kronecker product in f32, all others as the file has them.
    pub(super) fn bytes(&self, lora: &Lora) -> u64 {
        let stored = |numbers: &[usize]| numbers.iter().map(|n| lora.stored_bytes(*n)).sum::<u64>();
        let wide = |numbers: &[usize]| {
            let counts = numbers.iter().map(|n| lora.shape(*n).iter().product::<usize>() as u64);
            4 * counts.sum::<u64>()
        };
        let of_formula = |formula: &Formula| match *formula {
            Formula::LowRank { down, up, .. } => stored(&[up]) + wide(&[down]),
            Formula::Hada { first: [a, b], second: [c, d], .. } => stored(&[a, c]) + wide(&[b, d]),
            Formula::Kron { first, second, .. } => {
                let numbers = [first, second].map(|m| m.shape(lora).iter().product::<usize>());
                4 * numbers.iter().sum::<usize>() as u64
            }
            Formula::Diff { diff: whole, .. } | Formula::Whole { whole } => stored(&[whole]),
        };
        let magnitude = self.magnitude.map_or(0, |n| 4 * lora.shape(n).iter().product::<usize>());
        magnitude as u64 + self.formulas.iter().map(of_formula).sum::<u64>()
    }
}

/// A shape with all axes after the first taken together.
pub(super) fn flat(shape: &[usize]) -> [usize; 2] {
    [shape.first().copied().unwrap_or(1), shape.iter().skip(1).product()]
}
