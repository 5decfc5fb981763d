//! Golden cases: tensors recorded from the reference implementations, and their comparison
//! with this workspace.
//!
//! A case is a folder with `case.json` (kind, call arguments, tolerances), `config.json`,
//! `weights.safetensors` and `io.safetensors` (`in.*`, `mid.*`, `out.*`). The kind alone picks
//! the code that runs it; shapes, sizes and names come from the files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use wan_model::weights::Scope;

mod clip;
mod compare;
mod layouts;
mod pipeline;
mod scheduler;
mod teacache;
mod transformer;
mod umt5;
mod vae;

pub use compare::{Compare, Report, Verdict};

/// A golden case as its folder has it.
pub struct Case {
    /// Where it lies.
    pub folder: PathBuf,
    /// `case.json`.
    pub description: Value,
    /// `config.json`.
    pub config: Value,
    /// Where the case is run, and all its tensors lie.
    pub device: Device,
    /// `io.safetensors`: f32, ids and masks i64.
    pub io: HashMap<String, Tensor>,
}

/// Why a case was not run: what the workspace lacks. Part of the error chain of a runner.
#[derive(Debug)]
pub struct NotSupported(pub String);

impl std::fmt::Display for NotSupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not supported yet: {}", self.0)
    }
}

impl std::error::Error for NotSupported {}

impl Case {
    /// Reads a case folder.
    pub fn load(folder: &Path, device: &Device) -> anyhow::Result<Self> {
        let json = |name: &str| -> anyhow::Result<Value> {
            let path = folder.join(name);
            let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
            serde_json::from_slice(&text).with_context(|| path.display().to_string())
        };
        let io = folder.join("io.safetensors");
        Ok(Self {
            description: json("case.json")?,
            config: json("config.json")?,
            io: candle_core::safetensors::load(&io, device)
                .with_context(|| io.display().to_string())?,
            device: device.clone(),
            folder: folder.to_owned(),
        })
    }

    /// Folder name, for people.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What `case.json` says the case is.
    pub fn kind(&self) -> &str {
        self.description["kind"].as_str().unwrap_or("")
    }

    /// A tensor of `io.safetensors`.
    pub fn tensor(&self, name: &str) -> anyhow::Result<&Tensor> {
        self.io.get(name).with_context(|| format!("io.safetensors has no {name}"))
    }

    /// The weights in f32. A case without `weights.safetensors` names another's under `weights`
    /// in `case.json`, relative to its folder.
    pub fn weights(&self) -> anyhow::Result<Scope> {
        let own = self.folder.join("weights.safetensors");
        match self.sibling("weights") {
            _ if own.exists() => self.open(own),
            Some(path) => self.open(path),
            None => bail!("no weights.safetensors, and case.json names no other"),
        }
    }

    /// The weights that `key` of `case.json` names (`vae_weights`), in f32.
    pub fn weights_named(&self, key: &str) -> anyhow::Result<Scope> {
        self.open(self.sibling(key).with_context(|| format!("case.json names no {key}"))?)
    }

    fn sibling(&self, key: &str) -> Option<PathBuf> {
        self.description[key].as_str().map(|path| self.folder.join(path))
    }

    fn open(&self, path: PathBuf) -> anyhow::Result<Scope> {
        // Files of several parts have the part's name before their tensors'.
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
        if tensors.keys().any(|name| name.starts_with("transformer.")) {
            return Ok(Scope::new(tensors, DType::F32, &self.device));
        }
        Ok(wan_model::weights::open(&[path], DType::F32, &self.device)?)
    }
}

/// Runs one case folder.
pub fn run(folder: &Path, device: &Device) -> Report {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let case = match Case::load(folder, device) {
        Ok(case) => case,
        Err(error) => return Report::failed(name, String::new(), format!("{error:#}")),
    };
    let mut compare = Compare::new(&case);
    let outcome = dispatch(&case, &mut compare).and_then(|()| layouts::check(&case));
    compare.finish(outcome)
}

fn dispatch(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    match case.kind() {
        "wan_transformer" | "sky_transformer" => transformer::run(case, compare),
        "vae" => vae::run(case, compare),
        "umt5" => umt5::run(case, compare),
        "clip_vision" => clip::run(case, compare),
        "wan_pipeline" => pipeline::run_wan(case, compare),
        "df_pipeline" => pipeline::run_df(case, compare),
        "teacache_wan" | "teacache_df" => teacache::run(case, compare),
        "scheduler" => scheduler::run(case, compare),
        other => Err(NotSupported(format!("kind {other:?}")).into()),
    }
}

/// Case folders of `folder`, sorted: those with a `case.json`; `folder` itself if it is one.
pub fn find(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if folder.join("case.json").exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join("case.json").exists() {
            cases.push(path);
        }
    }
    cases.sort();
    Ok(cases)
}
