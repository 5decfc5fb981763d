//! Factors of 8-bit tensors: `L.scale_weight` beside `L.weight`, one number for the tensor or one
//! per row.
//!
//! Attention's matrices are square, so a factor along the wrong axis would cause no error by
//! itself. Sources: ComfyUI `utils.convert_old_quants` (a number), musubi-tuner 30c658c
//! `fp8_optimization_utils.py` (`[1]` or `[out, 1]`).

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::stored::Stored;
use crate::error::{Error, Result};
use crate::original_names::{self, Part};

/// Name of a tensor (of any shape and format) that marks a file whose 8-bit matrices have factors.
pub(super) const MARK: &str = "scaled_fp8";

/// End of a factor's name, in place of `weight`.
pub(super) const SUFFIX: &str = "scale_weight";

/// The part of a factor that belongs to `part` of its tensor; a single number belongs to every
/// part.
pub(super) fn part(part: Part, shape: &[usize]) -> Part {
    match part {
        Part::Third(_) if shape.iter().product::<usize>() != 1 => part,
        _ => Part::Whole,
    }
}

/// The first tensor whose factor is missing, superfluous or misshaped, and what is wrong. `marked`:
/// the files have a [`MARK`].
pub(super) fn fault<'a>(
    tensors: &'a HashMap<String, Stored>,
    scales: &'a HashMap<String, Stored>,
    marked: bool,
) -> Option<(&'a Stored, String)> {
    for (name, scale) in scales {
        let Some(tensor) = tensors.get(name) else {
            return Some((scale, format!("tensor `{}` is a factor of no tensor", scale.original)));
        };
        if along_rows(&scale.shape, &tensor.shape).is_none() {
            let rows = tensor.shape.first().copied().unwrap_or(1);
            let (original, owner, shape) = (&scale.original, &tensor.original, &tensor.shape);
            let reason = format!(
                "tensor `{original}` has shape {:?}, expected one number, or one for each row of \
                 `{owner}` {shape:?}: [{rows}] or [{rows}, 1]",
                scale.shape
            );
            return Some((scale, reason));
        }
    }
    if !marked && scales.is_empty() {
        return None;
    }
    let is_bare = |(name, tensor): &(&String, &Stored)| {
        tensor.is_8_bit_matrix() && !scales.contains_key(*name)
    };
    let (_, bare) = tensors.iter().filter(is_bare).min_by_key(|(name, _)| *name)?;
    let reason = format!(
        "tensor `{}` {:?} has no factor beside it, which the 8-bit matrices of this file should \
         have: `{}`",
        bare.original,
        bare.shape,
        scale_name(&bare.original)
    );
    Some((bare, reason))
}

/// The first factor that is not a positive, finite number.
///
/// # Errors
/// If the factor cannot be read as f32.
pub(super) fn bad_number(factor: &Tensor) -> Result<Option<f32>> {
    let numbers = factor.flatten_all()?.to_vec1::<f32>()?;
    Ok(numbers.into_iter().find(|number| !number.is_finite() || *number <= 0.))
}

/// `tensor` times `factor`, row by row, in f32.
///
/// # Errors
/// [`Error::Input`] for a factor that is neither one number nor one per row.
pub(super) fn multiplied(tensor: &Tensor, factor: &Tensor) -> Result<Tensor> {
    match along_rows(factor.dims(), tensor.dims()) {
        Some(shape) => Ok(tensor.to_dtype(DType::F32)?.broadcast_mul(&factor.reshape(shape)?)?),
        None => Err(Error::input("scale", format!("one a row of {tensor:?}"), factor.dims())),
    }
}

/// Name of the factor of the tensor `original`.
fn scale_name(original: &str) -> String {
    format!("{}{SUFFIX}", original.strip_suffix("weight").unwrap_or(original))
}

/// The shape to which a factor of shape `scale` must be reshaped to multiply a tensor of shape
/// `tensor` row by row. (Unchanged, a factor `[out]` would broadcast along the last axis.) `None`
/// if it does not fit.
fn along_rows(scale: &[usize], tensor: &[usize]) -> Option<Vec<usize>> {
    let rows = tensor.first().copied().unwrap_or(1);
    let count = match scale {
        [] | [1] => 1,
        [count] | [count, 1] if *count == rows => rows,
        _ => return None,
    };
    let mut shape = vec![1; tensor.len()];
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    Some(shape)
}

/// The name of the tensor to which a factor belongs and `true`; for any other name, the name and
/// `false`.
pub(super) fn owner(name: &str) -> (String, bool) {
    match name.strip_suffix(SUFFIX) {
        Some(layer) => (format!("{layer}weight"), true),
        None => (name.to_owned(), false),
    }
}

/// Whether the tensor is the mark of a file with factors.
pub(super) fn is_mark(original: &str) -> bool {
    original_names::without_prefix(original) == MARK
}

#[cfg(test)]
mod tests;
