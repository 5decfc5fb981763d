//! Factors of 8-bit tensors: `L.scale_weight` beside `L.weight`, one number for all of it or one a
//! row.
//!
//! Attention's matrices are square, so a factor along the wrong axis would load without an error.
//! Sources: ComfyUI `utils.convert_old_quants` (a number), musubi-tuner 30c658c
//! `fp8_optimization_utils.py` (`[1]` or `[out, 1]`).

use candle_core::{DType, Tensor};
use safetensors::Dtype;

use super::{Stored, Weights};
use crate::error::{Error, Result};
use crate::original_names::{self, Part};

/// Says, as a tensor of any shape and format, that a file's 8-bit matrices have factors.
pub(super) const MARK: &str = "scaled_fp8";

/// What a factor's name has in place of `weight`.
pub(super) const SUFFIX: &str = "scale_weight";

/// What of a factor belongs to `part` of its tensor: a number belongs to every part.
pub(super) fn part(part: Part, shape: &[usize]) -> Part {
    match part {
        Part::Third(_) if shape.iter().product::<usize>() != 1 => part,
        _ => Part::Whole,
    }
}

impl Weights {
    /// Checks that factors and tensors belong together, before anything is loaded. `promised`: the
    /// files have a [`MARK`].
    pub(super) fn check_scales(&self, promised: bool) -> Result<()> {
        for (name, scale) in &self.scales {
            let Some(tensor) = self.tensors.get(name) else {
                let reason = format!("tensor `{}` is a factor of no tensor", scale.original);
                return Err(self.malformed(scale, reason));
            };
            if along_rows(&scale.shape, &tensor.shape).is_none() {
                let rows = tensor.shape.first().copied().unwrap_or(1);
                let (original, owner, shape) = (&scale.original, &tensor.original, &tensor.shape);
                let reason = format!(
                    "tensor `{original}` has shape {:?}, expected one number, or one for each row \
                     of `{owner}` {shape:?}: [{rows}] or [{rows}, 1]",
                    scale.shape
                );
                return Err(self.malformed(scale, reason));
            }
        }
        if !promised && self.scales.is_empty() {
            return Ok(());
        }
        let is_bare = |(name, tensor): &(&String, &Stored)| {
            tensor.is_8_bit_matrix() && !self.scales.contains_key(*name)
        };
        let bare = self.tensors.iter().filter(is_bare).min_by_key(|(name, _)| *name);
        bare.map_or(Ok(()), |(_, tensor)| {
            let shape = &tensor.shape;
            let reason = format!(
                "tensor `{}` {shape:?} has no factor beside it, which the 8-bit matrices of this \
                 file should have: `{}`",
                tensor.original,
                scale_name(&tensor.original)
            );
            Err(self.malformed(tensor, reason))
        })
    }

    /// `tensor` times its factor, in f32.
    pub(super) fn scaled(&self, tensor: &Tensor, scale: &Stored) -> Result<Tensor> {
        let factor = self.read(scale, tensor.device())?.to_dtype(DType::F32)?;
        let numbers = factor.flatten_all()?.to_vec1::<f32>()?;
        if let Some(bad) = numbers.iter().find(|number| !number.is_finite() || **number <= 0.) {
            let reason = format!("tensor `{}` has the factor {bad}", scale.original);
            return Err(self.malformed(scale, format!("{reason}, expected positive numbers")));
        }
        match along_rows(factor.dims(), tensor.dims()) {
            Some(shape) => {
                Ok(tensor.to_dtype(DType::F32)?.broadcast_mul(&factor.reshape(shape)?)?)
            }
            None => Err(Error::input("scale", format!("one a row of {tensor:?}"), factor.dims())),
        }
    }

    fn malformed(&self, stored: &Stored, reason: String) -> Error {
        Error::MalformedFile { path: self.files[stored.file].path.clone(), reason }
    }
}

impl Stored {
    /// Only matrices called `weight` can have a factor.
    fn is_8_bit_matrix(&self) -> bool {
        let is_8_bit = matches!(self.info.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2);
        is_8_bit && self.shape.len() > 1 && self.original.ends_with("weight")
    }
}

/// What the factor of the tensor `original` is called.
fn scale_name(original: &str) -> String {
    format!("{}{SUFFIX}", original.strip_suffix("weight").unwrap_or(original))
}

/// The shape in which a factor of shape `scale` multiplies a tensor of shape `tensor`, row by row.
/// A factor `[out]` as it is would lie along the last axis.
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

/// The tensor that a name is the factor of, and whether it is one.
pub(super) fn owner(name: &str) -> (String, bool) {
    match name.strip_suffix(SUFFIX) {
        Some(layer) => (format!("{layer}weight"), true),
        None => (name.to_owned(), false),
    }
}

/// Whether the tensor says only that there are factors.
pub(super) fn is_mark(original: &str) -> bool {
    original_names::without_prefix(original) == MARK
}

#[cfg(test)]
mod tests;
