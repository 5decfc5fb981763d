//! `index.json` and `case.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Names of the cases of a set.
#[derive(Deserialize)]
struct Index {
    cases: Vec<String>,
}

/// What has to come of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Must {
    Loads,
    Refused,
    /// Whichever, but nothing else.
    LoadsOrRefused,
}

/// A LoRA beside the weights.
#[derive(Debug, Deserialize)]
pub(super) struct LoraOfCase {
    pub(super) file: PathBuf,
    pub(super) strength: f64,
}

/// Limits of the process.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Limits {
    /// Of the processor.
    pub(super) seconds: u64,
    /// Memory that it touches.
    pub(super) memory_mb: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tolerance {
    /// Largest error of a tensor, over its largest number.
    pub(super) max_abs_error_over_max_abs: f64,
}

/// What a `case.json` says.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    /// `transformer`, `text_encoder`, `vae`, `image_encoder`, `tokenizer`.
    pub(super) kind: String,
    pub(super) must: Must,
    #[serde(default)]
    pub(super) model: Vec<PathBuf>,
    pub(super) config: Option<PathBuf>,
    #[serde(default)]
    pub(super) loras: Vec<LoraOfCase>,
    pub(super) limits: Option<Limits>,
    /// Tensors under Wan's names.
    pub(super) expected: Option<PathBuf>,
    pub(super) every_other_tensor_as_in: Option<PathBuf>,
    pub(super) tolerance: Option<Tolerance>,
    /// Of each list, the message has one of the words.
    #[serde(default)]
    pub(super) message_has: Vec<Vec<String>>,
    #[serde(default)]
    pub(super) message_lacks: Vec<String>,
    /// As `message_has`, of what is printed where the files load.
    #[serde(default)]
    pub(super) warning_has: Vec<Vec<String>>,
    /// Inputs and outputs of a forward pass.
    pub(super) forward: Option<PathBuf>,
    /// A file that is there if code in the weights was run.
    pub(super) must_not_exist: Option<PathBuf>,
    /// Of the tokenizer.
    #[serde(default)]
    pub(super) rows: Vec<Row>,
}

/// A prompt, and its numbers as Wan and diffusers hand them to the encoder, without padding.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) prompt: String,
    pub(super) ids_512: Vec<u32>,
}

/// A case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) said: Said,
}

/// The names of a set's cases, in its own order.
pub(super) fn names(set: &Path) -> Result<Vec<String>> {
    let Index { cases } = json(&set.join("index.json"))?;
    ensure!(!cases.is_empty(), "{}: its index names no case", set.display());
    Ok(cases)
}

impl Case {
    pub(super) fn read(set: &Path, name: &str) -> Result<Self> {
        let folder = set.join(name);
        let said: Said = json(&folder.join("case.json"))?;
        ensure!(said.kind == "tokenizer" || !said.model.is_empty(), "{name}: it names no weights");
        Ok(Self { name: name.into(), folder, said })
    }

    pub(super) fn is_tokenizer(&self) -> bool {
        self.said.kind == "tokenizer"
    }

    /// A case that may be refused has no forward pass that it has to give.
    pub(super) fn has_forward(&self) -> bool {
        self.said.forward.is_some() && self.said.must == Must::Loads
    }

    /// Where a file that the case names lies.
    pub(super) fn file(&self, named: &Path) -> PathBuf {
        self.folder.join(named)
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}
