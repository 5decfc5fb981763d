//! Tensors that were written, against those that were expected.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use wan_model::original_names::{Layout, Part};

use super::case::Case;

/// Largest error of a forward pass, over the largest number: the difference of two ways to add
/// thousands of products in f32.
const FORWARD_MAX: f64 = 3e-5;

type Tensors = HashMap<String, Tensor>;

/// Why the tensors in `out` are not those of the case; none if they are.
pub(super) fn fault(case: &Case, out: &Path) -> Result<Option<String>> {
    let Ok(found) = read(out) else {
        return Ok(Some("what was written cannot be read".into()));
    };
    let mut expected = Tensors::new();
    for path in [&case.said.every_other_tensor_as_in, &case.said.expected].into_iter().flatten() {
        expected.extend(read(&case.file(path))?);
    }
    let most = case.said.tolerance.as_ref().context("a tolerance")?.max_abs_error_over_max_abs;
    let layout = layout(case)?;
    for (name, expected) in &expected {
        let Some(found) = find(&found, layout, name)? else {
            return Ok(Some(format!("{name} is not there")));
        };
        if let Some(fault) = difference(&found, expected, most)? {
            return Ok(Some(format!("{name} {fault}")));
        }
    }
    Ok(None)
}

/// Why what came out of a forward pass is not what was recorded; none if it is.
pub(super) fn forward_fault(io: &Path, out: &Path) -> Result<Option<String>> {
    let (recorded, found) = (read(io)?, read(out)?);
    for (name, expected) in recorded.iter().filter(|(name, _)| name.starts_with("out.")) {
        let Some(found) = found.get(name) else {
            return Ok(Some(format!("{name} is not there")));
        };
        if found.dims() != expected.dims() {
            let (found, expected) = (found.dims(), expected.dims());
            return Ok(Some(format!("{name} has shape {found:?}, expected {expected:?}")));
        }
        if let Some(fault) = difference(found, expected, FORWARD_MAX)? {
            return Ok(Some(format!("{name} {fault}")));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Tensors> {
    candle_core::safetensors::load(path, &Device::Cpu).with_context(|| path.display().to_string())
}

/// The layout of Wan's own names.
fn layout(case: &Case) -> Result<Layout> {
    Ok(match case.said.kind.as_str() {
        "transformer" => Layout::Transformer,
        "text_encoder" => Layout::TextEncoder,
        "image_encoder" => Layout::ImageEncoder,
        _ => {
            let config = case.said.config.as_deref().context("the config of a VAE")?;
            let config: Value = serde_json::from_slice(&fs::read(case.file(config))?)?;
            let blocks = config["num_res_blocks"].as_u64().unwrap_or(2);
            let level = usize::try_from(blocks)? + 2;
            let is_22 = config["is_residual"] == Value::Bool(true);
            if is_22 { Layout::Vae22 } else { Layout::Vae21 { level } }
        }
    })
}

/// The tensor of Wan's name `name`, which may be there under that of diffusers, or in parts.
fn find(found: &Tensors, layout: Layout, name: &str) -> Result<Option<Tensor>> {
    if let Some(tensor) = found.get(name) {
        return Ok(Some(tensor.clone()));
    }
    let parts = layout.rename(name);
    let parts = parts.iter().map(|(name, _): &(String, Part)| found.get(name).cloned());
    let Some(parts) = parts.collect::<Option<Vec<_>>>() else { return Ok(None) };
    Ok(Some(match parts.as_slice() {
        [whole] => whole.clone(),
        // Rows of queries, of keys, of values.
        several => Tensor::cat(several, 0)?,
    }))
}

/// How a tensor differs from the expected one by more than `most` of its largest number; none if it
/// does not. Axes of length 1 do not count.
fn difference(found: &Tensor, expected: &Tensor, most: f64) -> Result<Option<String>> {
    let long = |tensor: &Tensor| -> Vec<usize> {
        tensor.dims().iter().copied().filter(|length| *length != 1).collect()
    };
    if long(found) != long(expected) {
        let (found, expected) = (found.dims(), expected.dims());
        return Ok(Some(format!("has shape {found:?}, expected {expected:?}")));
    }
    let (mut error, mut largest) = (0f64, 0f64);
    for (found, expected) in numbers(found)?.into_iter().zip(numbers(expected)?) {
        if found.is_nan() != expected.is_nan() {
            return Ok(Some(format!("has {found}, expected {expected}")));
        }
        if !expected.is_nan() {
            error = error.max((found - expected).abs());
            largest = largest.max(expected.abs());
        }
    }
    let share = error / if largest > 0. { largest } else { 1. };
    // What is no number is no small one.
    let is_small = share <= most;
    let fault = || format!("differs by {share:.3e} of its largest number, allowed {most:e}");
    Ok((!is_small).then(fault))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(numbers: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_difference_is_seen_and_axes_of_one_are_none() {
        let is_found = |found: &Tensor, expected: &Tensor| {
            difference(found, expected, 1e-3).unwrap().is_some()
        };
        let expected = tensor(&[1., -4., 0., 2.], &[2, 2]);
        assert!(!is_found(&tensor(&[1.003, -4., 0., 2.], &[1, 2, 2]), &expected));
        assert!(is_found(&tensor(&[1.005, -4., 0., 2.], &[2, 2]), &expected));
        assert!(is_found(&tensor(&[1., -4., 0., 2.], &[4]), &expected));
        assert!(is_found(&tensor(&[1., -4., f32::NAN, 2.], &[2, 2]), &expected));
        assert!(is_found(&tensor(&[1., f32::INFINITY, 0., 2.], &[2, 2]), &expected));
        let without = tensor(&[f32::NAN, 1.], &[2]);
        assert!(!is_found(&without, &without) && is_found(&tensor(&[1., 1.], &[2]), &without));
    }

    #[test]
    fn tensors_are_found_under_both_names_and_in_parts() {
        let name = "visual.transformer.3.attn.to_qkv.bias";
        let part = |letter: &str, number: f32| {
            let name = format!("vision_model.encoder.layers.3.self_attn.{letter}_proj.bias");
            (name, tensor(&[number, number], &[2]))
        };
        let mut found: Tensors = [part("q", 1.), part("k", 2.), part("v", 3.)].into();
        let whole = find(&found, Layout::ImageEncoder, name).unwrap().unwrap();
        assert_eq!(numbers(&whole).unwrap(), [1., 1., 2., 2., 3., 3.]);
        found.remove("vision_model.encoder.layers.3.self_attn.k_proj.bias");
        assert!(find(&found, Layout::ImageEncoder, name).unwrap().is_none());
        found.insert(name.into(), tensor(&[5.], &[1]));
        assert!(find(&found, Layout::ImageEncoder, name).unwrap().is_some());
    }
}
