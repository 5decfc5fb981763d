//! Factors of 8-bit tensors: `L.scale_weight` or `L.weight_scale` beside `L.weight`, one number for
//! the tensor, one per row, or some per row.
//!
//! Attention's matrices are square, so a factor along the wrong axis would cause no error by
//! itself. Sources: ComfyUI `utils.convert_old_quants` and `ops.py` (a number), LightX2V f8aee98
//! `quant.py` (`weight_scale [out, 1]`), musubi-tuner 30c658c `fp8_optimization_utils.py` (`[1]`,
//! `[out, 1]` or `[out, n, 1]`).

use std::collections::HashMap;

use wan_weight_files::Encoding;

use super::stored::Stored;
use crate::original_names::Part;

/// Name of a tensor (of any shape and format) that marks a file whose 8-bit matrices have factors.
pub(crate) const MARK: &str = "scaled_fp8";

/// Whether a tensor is that mark, behind whatever wrapper.
pub(super) fn is_mark(name: &str) -> bool {
    name.strip_suffix(MARK).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Ends of a factor's name, in place of `weight`.
const SUFFIXES: [&str; 2] = ["scale_weight", "weight_scale"];

/// Name of the factor of a tensor, in the older spelling, which all readers know.
pub(crate) fn name_of(tensor: &str) -> String {
    format!("{}{}", tensor.strip_suffix("weight").unwrap_or(tensor), SUFFIXES[0])
}

/// The part of a factor that belongs to `part` of its tensor; a single number belongs to every
/// part.
pub(super) fn part(part: Part, shape: &[usize]) -> Part {
    match part {
        Part::Third(_) if shape.iter().product::<usize>() != 1 => part,
        _ => Part::Whole,
    }
}

/// The first tensor whose factor is missing, superfluous or misshaped, and what is wrong. `marked`:
/// the files say that 8-bit matrices have factors.
pub(super) fn fault<'a>(
    tensors: &'a HashMap<String, Stored>,
    factors: &'a HashMap<String, Stored>,
    marked: bool,
) -> Option<(&'a Stored, String)> {
    let misplaced = factors
        .iter()
        .find_map(|(name, factor)| Some((factor, misplaced(factor, tensors.get(name))?)));
    if misplaced.is_some() {
        return misplaced;
    }
    let promised =
        |tensor: &Stored| marked || !factors.is_empty() || tensor.info.encoding == Encoding::I8;
    let is_bare = |(name, tensor): &(&String, &Stored)| {
        tensor.is_8_bit_matrix() && promised(tensor) && !factors.contains_key(*name)
    };
    let (_, bare) = tensors.iter().filter(is_bare).min_by_key(|(name, _)| *name)?;
    let original = &bare.info.name;
    let layer = original.strip_suffix("weight").unwrap_or(original);
    let reason = format!(
        "tensor `{original}` {:?} has no scale beside it, which the 8-bit matrices of this file \
         should have: `{layer}{}` or `{layer}{}`; download the file again, or take another one",
        bare.shape, SUFFIXES[0], SUFFIXES[1]
    );
    Some((bare, reason))
}

/// What is wrong with a factor of this tensor.
fn misplaced(factor: &Stored, tensor: Option<&Stored>) -> Option<String> {
    let original = &factor.info.name;
    let Some(tensor) = tensor else {
        return Some(format!("tensor `{original}` is a factor of no tensor"));
    };
    if !factor.info.encoding.is_wide_float() {
        return Some(format!(
            "tensor `{original}` has factors in {}, expected floats of 16 or 32 bits: is this \
             mxfp8 or nvfp4, which are not read?",
            factor.info.encoding.name()
        ));
    }
    if are_along_rows(&factor.shape, &tensor.shape) {
        return None;
    }
    let rows = tensor.shape.first().copied().unwrap_or(1);
    let row: usize = tensor.shape.iter().skip(1).product();
    Some(format!(
        "tensor `{original}` has shape {:?}, expected one number, one for each row of `{}` {:?}: \
         [{rows}] or [{rows}, 1], or n for each, where n divides {row}: [{rows}, n, 1]",
        factor.shape, tensor.info.name, tensor.shape
    ))
}

/// Whether factors of shape `factors` belong to equal runs of the numbers of a tensor, row by row.
fn are_along_rows(factors: &[usize], tensor: &[usize]) -> bool {
    let rows = tensor.first().copied().unwrap_or(1);
    let row: usize = tensor.iter().skip(1).product();
    match *factors {
        [] | [1] => true,
        [count] | [count, 1] | [count, 1, 1] => count == rows,
        [count, runs] | [count, runs, 1] => count == rows && runs > 0 && row.is_multiple_of(runs),
        _ => false,
    }
}

/// The first factor that is not a positive, finite number.
pub(super) fn bad_number(factors: &[f32]) -> Option<f32> {
    factors.iter().copied().find(|number| !number.is_finite() || *number <= 0.)
}

/// The name of the tensor to which a factor of this name belongs; none for any other name.
pub(super) fn owner(name: &str) -> Option<String> {
    SUFFIXES.iter().find_map(|suffix| {
        let layer = name.strip_suffix(suffix)?;
        (layer.is_empty() || layer.ends_with('.')).then(|| format!("{layer}weight"))
    })
}

#[cfg(test)]
mod tests;
