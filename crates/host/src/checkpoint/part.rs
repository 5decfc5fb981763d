//! A part of a model: its files, what their headers say, and the network that it is to be.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use wan_model::inspect::{Inspection, Network};
use wan_model::weights::Weights;

use super::fingerprint;
use crate::error::{Error, Result};

/// Names of the parts, as diffusers' folders have them.
pub(super) const PARTS: [&str; 5] =
    ["transformer", "transformer_2", "vae", "text_encoder", "image_encoder"];

/// Parts that differ in their networks.
pub(super) const KINDS: [&str; 4] = ["transformer", "vae", "text_encoder", "image_encoder"];

/// A part. What was read without an error is kept.
pub(super) struct Part {
    /// What is taken of a file that holds several networks.
    kind: String,
    /// Its weight files, in order of name, or the index of its shards.
    pub(super) files: Vec<PathBuf>,
    weights: OnceLock<Arc<Weights>>,
    inspection: OnceLock<Inspection>,
    network: OnceLock<Network>,
    fingerprint: OnceLock<String>,
}

impl Part {
    /// The part of this name, in these files.
    pub(super) fn new(name: &str, files: Vec<PathBuf>) -> Self {
        let (weights, inspection, network, fingerprint) = Default::default();
        Self { kind: kind_of(name).into(), files, weights, inspection, network, fingerprint }
    }

    /// The same files, with what was read of them, as another part.
    pub(super) fn renamed(self, name: &str) -> Self {
        Self { kind: kind_of(name).into(), ..self }
    }

    pub(super) fn weights(&self) -> Result<&Arc<Weights>> {
        kept(&self.weights, || Ok(Arc::new(Weights::open_part(&self.files, Some(&self.kind))?)))
    }

    /// As that of a [`Checkpoint`](super::Checkpoint::fingerprint), of this part's files alone.
    pub(super) fn fingerprint(&self) -> Result<&str> {
        let made = kept(&self.fingerprint, || fingerprint::of(self.weights()?.files().iter()));
        made.map(String::as_str)
    }

    /// What it is by its tensors alone.
    pub(super) fn inspection(&self) -> Result<&Inspection> {
        kept(&self.inspection, || Ok(Inspection::of(self.weights()?)))
    }

    /// The network of a part of this name: of diffusers' `config.json`, else of the tensors.
    pub(super) fn network(&self, name: &str) -> Result<&Network> {
        kept(&self.network, || match self.diffusers_config(name)? {
            Some(network) => Ok(network),
            None => self.published(name),
        })
    }

    /// The `config.json` beside the weights, where the folder is one of diffusers'.
    fn diffusers_config(&self, name: &str) -> Result<Option<Network>> {
        let path = self.files[0].with_file_name("config.json");
        let is_diffusers = path.parent().is_some_and(|folder| folder.ends_with(name));
        if !is_diffusers {
            return Ok(None);
        }
        Ok(Network::read_config(&path, Some(name))?)
    }

    /// Heads and latent statistics are not in the tensors, so only published sizes will do.
    fn published(&self, name: &str) -> Result<Network> {
        let inspection = self.inspection()?;
        let published = inspection.network.as_ref().filter(|_| !inspection.candidates.is_empty());
        let is_this = |network: &&Network| part_of(network) == kind_of(name);
        published.filter(is_this).cloned().ok_or_else(|| self.not_published(name))
    }

    /// The error where neither a config nor the tensors say what network a part is.
    pub(super) fn not_published(&self, name: &str) -> Error {
        Error::model_file(format!(
            "{}: not a published {name} by its tensors (see `wan inspect`); for another one, keep \
             diffusers' config.json beside it in a folder named {name}",
            self.files[0].display()
        ))
    }
}

/// The part whose network one of this name has.
fn kind_of(name: &str) -> &str {
    name.trim_end_matches("_2")
}

/// The part that a network is; of two transformers, the first.
pub(super) fn part_of(network: &Network) -> &'static str {
    match network {
        Network::Transformer(_) => "transformer",
        Network::Vae(_) => "vae",
        Network::TextEncoder(_) => "text_encoder",
        Network::ImageEncoder(_) => "image_encoder",
    }
}

/// What a cell holds, made first where it is empty; an error is not kept.
pub(crate) fn kept<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}
