//! Documents of a model folder. None of them need be there; one that is there and cannot be read, or
//! does not fit, is the model's fault, and the error names the file and the field.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use wan_border::files::{self, Content};
use wan_border::numbers::{Tokens, within};

use crate::error::{Error, Result};
use crate::request::wan_toml::WanToml;

/// `model_index.json`. Other members are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelIndex {
    /// Diffusers' name of the pipeline.
    #[serde(rename = "_class_name")]
    pub(super) class_name: Option<String>,
    /// Sigma at and above which the first of two experts runs.
    pub(super) boundary_ratio: Option<f64>,
    /// Tokens that prompts are padded to.
    pub(super) max_sequence_length: Option<Tokens>,
}

/// Diffusers' scheduler config. Other members are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SchedulerConfig {
    flow_shift: Option<f64>,
    shift: Option<f64>,
}

impl ModelIndex {
    /// That of a folder; empty where there is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let index: Self = json(path)?.unwrap_or_default();
        let ratio = index.boundary_ratio.map(|ratio| within(ratio, 0.0..=1.0)).transpose();
        ratio.map_err(|error| malformed(path, format!("boundary_ratio: {error}")))?;
        Ok(index)
    }
}

impl SchedulerConfig {
    /// That of a folder; empty where there is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Ok(json(path)?.unwrap_or_default())
    }

    pub(super) fn shift(&self) -> Option<f64> {
        self.flow_shift.or(self.shift)
    }
}

/// The folder's defaults, where it has any.
pub(super) fn defaults(path: &Path) -> Result<Option<WanToml>> {
    let parsed = text(path)?.map(|text| toml::from_str(&text));
    parsed.transpose().map_err(|e: toml::de::Error| malformed(path, e.message().to_string()))
}

/// A document in JSON; none where there is no file.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parsed = text(path)?.map(|text| files::parse_json(&text));
    parsed.transpose().map_err(|said| malformed(path, said))
}

fn text(path: &Path) -> Result<Option<String>> {
    files::optional_text(path, Content::Settings).map_err(|error| Error::Model(error.into()))
}

/// The error of a document that does not fit. Backticks are for fields of a request.
pub(super) fn malformed(path: &Path, said: String) -> Error {
    let reason = said.trim().replace('`', "'");
    Error::Model(wan_model::Error::MalformedFile { path: path.into(), reason })
}
