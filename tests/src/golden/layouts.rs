//! The original names of a case's weights: `original_keys.json` (original to diffusers), and
//! `weights_original.safetensors`, a copy under the original names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor};
use wan_model::original_names::{Layout, Part};
use wan_model::weights::{Scope, Weights};

use super::Case;

/// Checks that the original names, where a case has them, lead to the tensors of its weights:
/// the same set, and for a copy the same bits. Cases without either pass.
pub(super) fn check(case: &Case) -> anyhow::Result<()> {
    let own = case.folder.join("weights.safetensors");
    let keys = case.folder.join("original_keys.json");
    if keys.exists() {
        let text = std::fs::read(&keys).with_context(|| keys.display().to_string())?;
        let keys: BTreeMap<String, String> = serde_json::from_slice(&text)?;
        check_names(&keys, &Weights::open(std::slice::from_ref(&own))?)?;
    }
    match copy(case) {
        Some(copy) => check_tensors(&Weights::open(&[copy])?, &Weights::open(&[own])?),
        None => Ok(()),
    }
}

/// The weights under their original names, in f32, of a case that has them.
pub(super) fn original_weights(case: &Case) -> anyhow::Result<Option<Scope>> {
    copy(case).map(|path| case.open(path)).transpose()
}

fn copy(case: &Case) -> Option<PathBuf> {
    let path = case.folder.join("weights_original.safetensors");
    path.exists().then_some(path)
}

fn check_names(keys: &BTreeMap<String, String>, weights: &Weights) -> anyhow::Result<()> {
    let layout = Layout::of(keys.keys().map(String::as_str));
    for (original, recorded) in keys {
        let ours = layout.rename(original);
        ensure!(
            ours == [(recorded.clone(), Part::Whole)],
            "{original} is {recorded}, not {ours:?}"
        );
    }
    let mut recorded: Vec<_> = keys.values().map(String::as_str).collect();
    recorded.sort_unstable();
    ensure!(recorded == weights.names(), "original_keys.json names other tensors than the weights");
    Ok(())
}

fn check_tensors(original: &Weights, weights: &Weights) -> anyhow::Result<()> {
    ensure!(original.layout() != Layout::Diffusers, "the original layout was not recognised");
    let (names, expected) = (original.names(), weights.names());
    ensure!(names == expected, "original names lead to {names:?}, the weights have {expected:?}");
    let bits = |weights: &Weights, name: &str| -> anyhow::Result<(Vec<usize>, Vec<u32>)> {
        let tensor: Tensor = weights.tensor(name, &Device::Cpu)?;
        let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok((tensor.dims().to_vec(), numbers.into_iter().map(f32::to_bits).collect()))
    };
    for name in names {
        ensure!(bits(original, name)? == bits(weights, name)?, "{name} differs");
    }
    Ok(())
}
