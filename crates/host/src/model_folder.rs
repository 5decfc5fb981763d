//! A model on disk: its parts, their configs, and the defaults that lie beside them.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wan_model::WanConfig;
use wan_model::clip::ClipVisionConfig;
use wan_model::inspect::{Network, inspect};
use wan_model::umt5::Umt5Config;
use wan_model::vae::VaeConfig;

use crate::defaults::Defaults;
use crate::error::{Error, Result};
use crate::loader::hex;
use crate::model_parts::{Parts, find_parts, pickles_in};

/// Latent channels of the VAE that Wan 2.2's text-and-image-to-video model comes with.
const TI2V_CHANNELS: usize = 48;

/// Name of the file with a folder's defaults.
const DEFAULTS_FILE: &str = "wan.toml";

/// Bytes hashed at each of [`FINGERPRINT_PLACES`] places of a weight file.
const FINGERPRINT_CHUNK: u64 = 1 << 20;
const FINGERPRINT_PLACES: u64 = 64;

/// A model folder.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    root: PathBuf,
    parts: Parts,
    tokenizer: Option<PathBuf>,
    /// Its `wan.toml`: what is used where the user gives no flag.
    pub defaults: Option<Defaults>,
}

impl ModelFolder {
    /// Opens a folder and reads its defaults.
    ///
    /// # Errors
    /// If there is no transformer in it, or `wan.toml` is malformed.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Parts::new(), None)
    }

    /// As [`open`](Self::open), with single files in the place of parts, and of the tokenizer.
    ///
    /// # Errors
    /// If there is no transformer, or `wan.toml` is malformed.
    pub fn open_with(root: &Path, files: Parts, tokenizer: Option<PathBuf>) -> Result<Self> {
        let mut parts = match root.is_dir() {
            true => find_parts(root)?,
            false => Parts::new(),
        };
        parts.extend(files);
        let transformer = root.join("transformer");
        if !parts.contains_key("transformer") && transformer.is_dir() {
            let folder = transformer.display();
            return Err(Error::invalid(format!("{folder}: no .safetensors file in it")));
        }
        if !parts.contains_key("transformer") {
            return Err(Error::invalid(format!(
                "{}: not a model folder (no transformer in it); --ckpt_dir names a folder in \
                 diffusers' or Wan's layout, --transformer a single file",
                root.display()
            )));
        }
        let path = root.join(DEFAULTS_FILE);
        let defaults = match fs::read_to_string(&path) {
            Ok(text) => Some(
                toml::from_str(&text)
                    .map_err(|e| Error::invalid(format!("{}: {}", path.display(), e.message())))?,
            ),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::Io { path, source: e }),
        };
        Ok(Self { root: root.to_path_buf(), parts, tokenizer, defaults })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The weight files of each part.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether the model has this part.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains_key(part)
    }

    /// Config of a transformer: `transformer` or `transformer_2`.
    ///
    /// # Errors
    /// If it is missing, malformed, or the weights are of another network.
    pub fn transformer_config(&self, part: &str) -> Result<WanConfig> {
        self.config(part, |network| match network {
            Network::Transformer(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the VAE.
    ///
    /// # Errors
    /// As [`transformer_config`](Self::transformer_config).
    pub fn vae_config(&self) -> Result<VaeConfig> {
        self.config("vae", |network| match network {
            Network::Vae(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the text encoder.
    ///
    /// # Errors
    /// As [`transformer_config`](Self::transformer_config).
    pub fn text_encoder_config(&self) -> Result<Umt5Config> {
        self.config("text_encoder", |network| match network {
            Network::TextEncoder(config) => Some(config),
            _ => None,
        })
    }

    /// Config of the image encoder.
    ///
    /// # Errors
    /// As [`transformer_config`](Self::transformer_config).
    pub fn image_encoder_config(&self) -> Result<ClipVisionConfig> {
        self.config("image_encoder", |network| match network {
            Network::ImageEncoder(config) => Some(config),
            _ => None,
        })
    }

    /// The network that a part is to be, by its config.
    ///
    /// # Errors
    /// As [`transformer_config`](Self::transformer_config).
    pub fn network(&self, part: &str) -> Result<Network> {
        Ok(match part {
            "vae" => Network::Vae(self.vae_config()?),
            "text_encoder" => Network::TextEncoder(self.text_encoder_config()?),
            "image_encoder" => Network::ImageEncoder(self.image_encoder_config()?),
            transformer => Network::Transformer(self.transformer_config(transformer)?),
        })
    }

    /// The `config.json` beside a part's weights where it is diffusers', else what the tensors tell.
    fn config<T: DeserializeOwned>(
        &self,
        part: &str,
        of: impl FnOnce(Network) -> Option<T>,
    ) -> Result<T> {
        let files = self.weights(part)?;
        let path = files[0].with_file_name("config.json");
        let is_diffusers = path.parent().is_some_and(|folder| folder.ends_with(part));
        if is_diffusers && path.is_file() {
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            return serde_json::from_str(&text)
                .map_err(|e| Error::invalid(format!("{}: {e}", path.display())));
        }
        // Heads and latent statistics are not in the tensors, so only published sizes will do.
        let inspection = inspect(&files)?;
        let known = !inspection.candidates.is_empty();
        inspection.network.filter(|_| known).and_then(of).ok_or_else(|| {
            Error::invalid(format!(
                "{}: not a published {part} by its tensors (see `wan inspect`); for another one, \
                 keep diffusers' config.json beside it in a folder named {part}",
                files[0].display()
            ))
        })
    }

    /// Length that prompts are padded to; Wan's 512 unless `model_index.json` says otherwise.
    pub fn max_sequence_length(&self) -> usize {
        let length = self.index()["max_sequence_length"].as_u64();
        length.map_or(512, |length| length as usize)
    }

    /// Timestep at and above which the first of two experts runs; none where there is one
    /// transformer. `boundary_ratio` of `model_index.json`, else Wan 2.2's own (commit 42bf4cf):
    /// 0.900 with an image, 0.875 without.
    ///
    /// # Errors
    /// If the transformer's config cannot be had.
    pub fn boundary_timestep(&self) -> Result<Option<f64>> {
        if !self.has("transformer_2") {
            return Ok(None);
        }
        let config = self.transformer_config("transformer")?;
        let published = if config.in_channels > config.out_channels { 0.9 } else { 0.875 };
        Ok(Some(self.index()["boundary_ratio"].as_f64().unwrap_or(published) * 1000.0))
    }

    /// `df` for SkyReels-V2's diffusion-forcing pipelines; else what the transformer's inputs tell:
    /// `flf2v`, `i2v`, `ti2v` or `t2v`.
    ///
    /// # Errors
    /// If the transformer's config cannot be had.
    pub fn variant(&self) -> Result<String> {
        let class = self.index()["_class_name"].as_str().unwrap_or_default().to_string();
        let config = self.transformer_config("transformer")?;
        let forced = class.contains("DiffusionForcing") || config.inject_sample_info;
        let variant = match () {
            () if forced => "df",
            () if config.pos_embed_seq_len.is_some() => "flf2v",
            () if config.in_channels > config.out_channels => "i2v",
            () if config.in_channels == TI2V_CHANNELS => "ti2v",
            () => "t2v",
        };
        Ok(variant.into())
    }

    /// Flow shift of diffusers' scheduler config, where there is one.
    pub fn scheduler_shift(&self) -> Option<f64> {
        let config = self.json("scheduler/scheduler_config.json");
        config["flow_shift"].as_f64().or(config["shift"].as_f64())
    }

    /// `model_index.json`; null where there is none.
    fn index(&self) -> serde_json::Value {
        self.json("model_index.json")
    }

    /// A file of the folder; null where there is none.
    fn json(&self, name: &str) -> serde_json::Value {
        let text = fs::read_to_string(self.root.join(name)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// `tokenizer.json`: the one that was named, or where diffusers and Wan keep it.
    ///
    /// # Errors
    /// If there is none.
    pub fn tokenizer(&self) -> Result<PathBuf> {
        let places =
            ["tokenizer/tokenizer.json", "tokenizer.json", "google/umt5-xxl/tokenizer.json"];
        let found = places.map(|place| self.root.join(place)).into_iter().find(|p| p.is_file());
        self.tokenizer.clone().or(found).ok_or_else(|| {
            Error::invalid(format!(
                "{}: no tokenizer.json (looked for {}); name one with --tokenizer",
                self.root.display(),
                places.join(", ")
            ))
        })
    }

    /// The weight files of a part, in order of name.
    ///
    /// # Errors
    /// If there is none.
    pub fn weights(&self, part: &str) -> Result<Vec<PathBuf>> {
        self.parts.get(part).cloned().ok_or_else(|| {
            let pickles = pickles_in(&self.root);
            let hint = match pickles.is_empty() {
                true => String::new(),
                false => format!(
                    "; {} is a pickle, which is never loaded: convert it to safetensors",
                    pickles[0].display()
                ),
            };
            Error::invalid(format!(
                "{}: no .safetensors file of the {part}{hint}; name one with --{part}",
                self.root.display()
            ))
        })
    }

    /// SHA-256 over size and contents of all weight files; of a file above 64 MiB, over a
    /// mebibyte at each of 64 evenly spaced places (header included), so that 28 GB take
    /// a blink. Tells models apart and notices a swapped file; it is no proof of integrity.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for paths in self.parts.values() {
            for path in paths {
                hash_file(path, &mut hash).map_err(Error::io(path))?;
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

fn hash_file(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    hash.update(size.to_le_bytes());
    let step = (size / FINGERPRINT_PLACES).max(FINGERPRINT_CHUNK);
    let mut buffer = Vec::new();
    for place in (0..size).step_by(step as usize) {
        file.seek(SeekFrom::Start(place))?;
        buffer.clear();
        file.by_ref().take(FINGERPRINT_CHUNK).read_to_end(&mut buffer)?;
        hash.update(&buffer);
    }
    Ok(())
}
