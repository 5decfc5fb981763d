//! A model on disk. A folder as it is downloaded, or single files, becomes parts: which
//! files hold which network, by the config beside them or by their tensors. Every header is read
//! once, when the checkpoint is opened; tensors are read by the [`loader`], when a part is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wan_border::numbers::Tokens;
use wan_model::WanConfig;
use wan_model::clip::ClipVisionConfig;
use wan_model::family::{Family, PROMPT_TOKENS};
use wan_model::inspect::{self, Inspection, Network};
use wan_model::umt5::Umt5Config;
use wan_model::vae::VaeConfig;
use wan_model::weights::{FileError, Weights};

use crate::error::{Error, Result};
use crate::request::wan_toml::WanToml;

mod candidates;
mod document;
mod expert_names;
mod find;
mod fingerprint;
pub(crate) mod loader;
pub(crate) mod lora_set;
mod part;
pub(crate) mod tokenizer;
mod weight_sets;
mod widths;

use document::{ModelIndex, SchedulerConfig};
use find::Found;
pub(crate) use part::kept;
use part::{PARTS, Part};

/// Name of the file with a folder's defaults.
const DEFAULTS_FILE: &str = "wan.toml";

/// The transformers of a model with two experts, in the order of their use.
const EXPERTS: [&str; 2] = ["transformer", "transformer_2"];

/// The weight files of each part.
pub(crate) type Parts = BTreeMap<String, Vec<PathBuf>>;

/// A model on disk; a clone shares what was read.
#[derive(Clone)]
pub struct Checkpoint(Arc<Contents>);

struct Contents {
    root: PathBuf,
    files: Parts,
    parts: BTreeMap<String, Part>,
    /// Why parts could not be chosen.
    unclear: BTreeMap<String, String>,
    tokenizer: Option<PathBuf>,
    defaults: Option<WanToml>,
    index: ModelIndex,
    scheduler: SchedulerConfig,
    fingerprint: OnceLock<String>,
}

impl Checkpoint {
    /// Names of the parts, as diffusers' folders have them.
    pub const PARTS: [&'static str; 5] = PARTS;

    /// Finds the parts in a folder and reads the headers of their files.
    ///
    /// A file whose header cannot be read is an error for whoever asks for its part: decoding needs
    /// no transformer.
    ///
    /// # Errors
    /// If there is no transformer in it, or `wan.toml` is malformed.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Parts::new(), None)
    }

    /// As [`open`](Self::open), with files in the place of parts, and of the tokenizer. They go
    /// over those that `[model]` of the folder's `wan.toml` names.
    ///
    /// # Errors
    /// If there is no transformer, or `wan.toml` is malformed.
    pub fn open_with(root: &Path, files: Parts, tokenizer: Option<PathBuf>) -> Result<Self> {
        let defaults = document::defaults(&root.join(DEFAULTS_FILE))?;
        let own = defaults.as_ref().map(|defaults| defaults.model.within(root)).unwrap_or_default();
        let named = own.parts.into_iter().chain(files.clone()).collect();
        let mut found = Found::named(&named);
        if root.is_dir() {
            found.add(root)?;
        }
        let Found { parts, unclear } = found;
        if !parts.contains_key("transformer") {
            let unclear = unclear.get("transformer").map(Error::invalid);
            return Err(unclear.unwrap_or_else(|| no_transformer(root, &files)));
        }
        for part in parts.values() {
            // Kept, or read again by whoever asks for the part, who is told why it cannot be.
            let _ = part.weights();
        }
        Ok(Self(Arc::new(Contents {
            files: parts.iter().map(|(name, part)| (name.clone(), part.files.clone())).collect(),
            parts,
            unclear,
            tokenizer: tokenizer.or(own.tokenizer),
            defaults,
            index: ModelIndex::read(&root.join("model_index.json"))?,
            scheduler: SchedulerConfig::read(&root.join("scheduler/scheduler_config.json"))?,
            fingerprint: OnceLock::new(),
            root: root.to_path_buf(),
        })))
    }

    /// The folder; empty where single files were named.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The weight files of each part, in order of name.
    pub fn parts(&self) -> &Parts {
        &self.0.files
    }

    /// Its `wan.toml`: what is used where the user gives no flag.
    pub(crate) fn defaults(&self) -> Option<&WanToml> {
        self.0.defaults.as_ref()
    }

    /// Whether the model has this part.
    pub fn has(&self, part: &str) -> bool {
        self.0.parts.contains_key(part)
    }

    /// The parts that are its transformers, in the order of their use: one, or one for high noise
    /// and one for low.
    pub fn experts(&self) -> &'static [&'static str] {
        &EXPERTS[..if self.has("transformer_2") { 2 } else { 1 }]
    }

    /// What the headers of a part say.
    ///
    /// # Errors
    /// If there is no such part, or a file is missing, truncated or malformed.
    pub fn weights(&self, part: &str) -> Result<&Arc<Weights>> {
        self.part(part)?.weights()
    }

    /// What a part is by its tensors alone, whatever the config beside it says.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn inspection(&self, part: &str) -> Result<&Inspection> {
        self.part(part)?.inspection()
    }

    /// The network that a part is to be: by the `config.json` beside its weights where it is
    /// diffusers', else by its tensors.
    ///
    /// # Errors
    /// If there is no such part, its config is malformed, or the weights are of another network.
    pub fn network(&self, part: &str) -> Result<&Network> {
        self.part(part)?.network(part)
    }

    /// Config of a transformer: `transformer` or `transformer_2`.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn transformer_config(&self, part: &str) -> Result<&WanConfig> {
        self.config(part, |network| match network {
            Network::Transformer(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the VAE.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn vae_config(&self) -> Result<&VaeConfig> {
        self.config("vae", |network| match network {
            Network::Vae(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the text encoder.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn text_encoder_config(&self) -> Result<&Umt5Config> {
        self.config("text_encoder", |network| match network {
            Network::TextEncoder(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the image encoder.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn image_encoder_config(&self) -> Result<&ClipVisionConfig> {
        self.config("image_encoder", |network| match network {
            Network::ImageEncoder(config) => Some(config),
            _ => None,
        })
    }

    fn config<T>(&self, part: &str, of: impl FnOnce(&Network) -> Option<&T>) -> Result<&T> {
        of(self.network(part)?).ok_or_else(|| self.0.parts[part].not_published(part))
    }

    /// Checks that every part that the model needs has the tensors of its network, and that the
    /// parts are of one model.
    ///
    /// # Errors
    /// If a part is missing, or a tensor is missing, misshaped or unexpected, or parts do not fit
    /// each other.
    pub fn check(&self) -> Result<()> {
        let image_encoder = self.family()?.intake.tokens.then_some("image_encoder");
        let encoders = ["text_encoder", "vae"].into_iter().chain(image_encoder);
        for part in self.experts().iter().copied().chain(encoders) {
            inspect::check(self.network(part)?, self.weights(part)?)?;
        }
        self.experts().iter().try_for_each(|part| widths::check(self, part))
    }

    /// The kind of model that the transformer's config and `model_index.json` tell.
    ///
    /// # Errors
    /// If the transformer's config cannot be had.
    pub fn family(&self) -> Result<Family> {
        let pipeline = self.0.index.class_name.as_deref().unwrap_or_default();
        Ok(Family::of(self.transformer_config("transformer")?, pipeline))
    }

    /// Timestep at and above which the first of two experts runs; none where there is one
    /// transformer. `boundary_ratio` of `model_index.json`, else the family's.
    ///
    /// # Errors
    /// If the transformer's config cannot be had.
    pub fn boundary_timestep(&self) -> Result<Option<f64>> {
        if !self.has("transformer_2") {
            return Ok(None);
        }
        let ratio = match self.0.index.boundary_ratio {
            Some(ratio) => ratio,
            None => self.family()?.boundary_ratio,
        };
        Ok(Some(ratio * 1000.0))
    }

    /// Length that prompts are padded to, in tokens; Wan's unless `model_index.json` says
    /// otherwise.
    pub fn max_sequence_length(&self) -> Tokens {
        self.0.index.max_sequence_length.unwrap_or(PROMPT_TOKENS)
    }

    /// Flow shift of diffusers' scheduler config, where there is one.
    pub fn scheduler_shift(&self) -> Option<f64> {
        self.0.scheduler.shift()
    }

    /// The tokenizer's file that was named, by flag or `wan.toml`.
    fn named_tokenizer(&self) -> Option<&Path> {
        self.0.tokenizer.as_deref()
    }

    /// SHA-256 over size and contents of all weight files, read once; of a file above 64 MiB, over
    /// a mebibyte at each of 64 evenly spaced places (header included), so that 28 GB take a blink.
    /// Tells models apart and notices a swapped file; it is no proof of integrity.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<&str> {
        let fingerprint = kept(&self.0.fingerprint, || self.fingerprint_now());
        fingerprint.map(String::as_str)
    }

    fn fingerprint_now(&self) -> Result<String> {
        let parts = self.0.parts.values();
        let weights = parts.map(Part::weights).collect::<Result<Vec<_>>>()?;
        fingerprint::of(weights.iter().flat_map(|weights| weights.files()))
    }

    /// As [`fingerprint`](Self::fingerprint), of one part's files.
    ///
    /// # Errors
    /// If there is no such part, or a file cannot be read.
    pub(crate) fn fingerprint_of(&self, part: &str) -> Result<&str> {
        self.part(part)?.fingerprint()
    }

    /// Checks that the files of a part still hold what was fingerprinted.
    ///
    /// # Errors
    /// If one was written to since it was opened, and the fingerprint is another one now.
    pub(crate) fn check_same(&self, part: &str) -> Result<()> {
        for file in self.weights(part)?.files() {
            let Some(path) = file.written_to().map_err(wan_model::Error::from)? else { continue };
            if self.fingerprint_now()? != self.fingerprint()? {
                let difference = "its numbers were written to".into();
                let path = path.into();
                return Err(
                    wan_model::Error::WeightFile(FileError::Changed { path, difference }).into()
                );
            }
        }
        Ok(())
    }

    fn part(&self, part: &str) -> Result<&Part> {
        if let Some(part) = self.0.parts.get(part) {
            return Ok(part);
        }
        let unclear = self.0.unclear.get(part).map(Error::invalid);
        Err(unclear.unwrap_or_else(|| {
            Error::invalid(format!(
                "{}: no file with the weights of the {part}; name one with `{part}`",
                self.root().display()
            ))
        }))
    }
}

fn no_transformer(root: &Path, given: &Parts) -> Error {
    if let Some(part) = given.keys().next().filter(|_| root.as_os_str().is_empty()) {
        return Error::invalid(format!(
            "`{part}` is no whole model; give `transformer` FILE too, or `ckpt_dir` DIR"
        ));
    }
    let transformer = root.join("transformer");
    if transformer.is_dir() {
        return Error::invalid(format!("{}: no weight file in it", transformer.display()));
    }
    Error::invalid(format!(
        "{}: not a model folder (no transformer in it); `ckpt_dir` names a folder in diffusers' \
         or Wan's layout or ComfyUI's models, `transformer` a single file",
        root.display()
    ))
}
