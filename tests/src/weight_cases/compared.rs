//! Tensors that were written, against those that were expected.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use wan_model::original_names::{Layout, Part};

use super::case::Case;
use super::numbers::{Numbers, Tensors, read};

/// Largest error of a forward pass, over the largest number: the difference of two ways to add
/// thousands of products in f32.
const FORWARD_MAX: f64 = 3e-5;

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
        let Some(found) = find(&found, layout, name) else {
            return Ok(Some(format!("{name} is not there")));
        };
        if let Some(fault) = difference(&found, expected, most) {
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
        if found.shape != expected.shape {
            let (found, expected) = (&found.shape, &expected.shape);
            return Ok(Some(format!("{name} has shape {found:?}, expected {expected:?}")));
        }
        if let Some(fault) = difference(found, expected, FORWARD_MAX) {
            return Ok(Some(format!("{name} {fault}")));
        }
    }
    Ok(None)
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
fn find(found: &Tensors, layout: Layout, name: &str) -> Option<Numbers> {
    if let Some(tensor) = found.get(name) {
        return Some(tensor.clone());
    }
    let parts = layout.rename(name);
    let parts = parts.iter().map(|(name, _): &(String, Part)| found.get(name).cloned());
    // Rows of queries, of keys, of values.
    parts.collect::<Option<Vec<_>>>()?.into_iter().reduce(Numbers::before)
}

/// How a tensor differs from the expected one by more than `most` of its largest number; none if it
/// does not. Axes of length 1 do not count.
fn difference(found: &Numbers, expected: &Numbers, most: f64) -> Option<String> {
    if found.long_axes() != expected.long_axes() {
        return Some(format!("has shape {:?}, expected {:?}", found.shape, expected.shape));
    }
    let (mut error, mut largest) = (0f64, 0f64);
    for (found, expected) in found.numbers.iter().zip(&expected.numbers) {
        if found.is_nan() != expected.is_nan() {
            return Some(format!("has {found}, expected {expected}"));
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
    (!is_small).then(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(numbers: &[f64], shape: &[usize]) -> Numbers {
        Numbers { shape: shape.to_vec(), numbers: numbers.to_vec() }
    }

    #[test]
    fn a_difference_is_seen_and_axes_of_one_are_none() {
        let is_found =
            |found: &Numbers, expected: &Numbers| difference(found, expected, 1e-3).is_some();
        let expected = tensor(&[1., -4., 0., 2.], &[2, 2]);
        assert!(!is_found(&tensor(&[1.003, -4., 0., 2.], &[1, 2, 2]), &expected));
        assert!(is_found(&tensor(&[1.005, -4., 0., 2.], &[2, 2]), &expected));
        assert!(is_found(&tensor(&[1., -4., 0., 2.], &[4]), &expected));
        assert!(is_found(&tensor(&[1., -4., f64::NAN, 2.], &[2, 2]), &expected));
        assert!(is_found(&tensor(&[1., f64::INFINITY, 0., 2.], &[2, 2]), &expected));
        let without = tensor(&[f64::NAN, 1.], &[2]);
        assert!(!is_found(&without, &without) && is_found(&tensor(&[1., 1.], &[2]), &without));
    }

    #[test]
    fn tensors_are_found_under_both_names_and_in_parts() {
        let name = "visual.transformer.3.attn.to_qkv.bias";
        let part = |letter: &str, number: f64| {
            let name = format!("vision_model.encoder.layers.3.self_attn.{letter}_proj.bias");
            (name, tensor(&[number, number], &[2]))
        };
        let mut found: Tensors = [part("q", 1.), part("k", 2.), part("v", 3.)].into();
        let whole = find(&found, Layout::ImageEncoder, name).unwrap();
        assert_eq!(whole.shape, [6]);
        assert_eq!(whole.numbers, [1., 1., 2., 2., 3., 3.]);
        found.remove("vision_model.encoder.layers.3.self_attn.k_proj.bias");
        assert!(find(&found, Layout::ImageEncoder, name).is_none());
        found.insert(name.into(), tensor(&[5.], &[1]));
        assert!(find(&found, Layout::ImageEncoder, name).is_some());
    }
}
