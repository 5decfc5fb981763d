//! A model on disk: its parts, their configs, and the defaults that lie beside them.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wan_model::WanConfig;
use wan_model::clip::ClipVisionConfig;
use wan_model::inspect::{Network, inspect};
use wan_model::umt5::Umt5Config;
use wan_model::vae::VaeConfig;
use wan_plugin_api::OptionValues;

use crate::error::{Error, Result};
use crate::loader::hex;
use crate::model_parts::{Parts, find_parts, pickles_in};

/// Name of the file with a folder's defaults.
const DEFAULTS_FILE: &str = "wan.toml";

/// Negative prompt that all published models are sampled with (Wan2.1, commit 9737cba,
/// `wan/configs/shared_config.py`).
const WAN_NEGATIVE_PROMPT: &str = "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，\
    静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，\
    画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，\
    背景人很多，倒着走";

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

/// `wan.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Generation settings.
    pub generate: GenerateDefaults,
    /// Options of the default sampler.
    pub sampler_options: OptionValues,
    /// Options of the default cache.
    pub cache_options: OptionValues,
}

/// `[generate]` of `wan.toml`; where a field is missing, Wan's own defaults hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "named as the flags, which document them")]
pub struct GenerateDefaults {
    pub prompt: Option<String>,
    pub negative_prompt: String,
    pub size: String,
    pub frame_num: usize,
    pub sample_steps: u32,
    pub sample_shift: f64,
    pub sample_guide_scale: f64,
    pub sample_guide_scale_low: Option<f64>,
    pub fps: f64,
    pub sampler: Option<String>,
    pub cache: Option<String>,
}

impl Default for GenerateDefaults {
    fn default() -> Self {
        Self {
            prompt: None,
            negative_prompt: WAN_NEGATIVE_PROMPT.into(),
            size: "832*480".into(),
            frame_num: 81,
            sample_steps: 50,
            sample_shift: 5.0,
            sample_guide_scale: 5.0,
            sample_guide_scale_low: None,
            fps: 16.0,
            sampler: None,
            cache: None,
        }
    }
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

    /// `df` for SkyReels-V2's diffusion-forcing pipelines, else `i2v` or `t2v`.
    pub fn variant(&self) -> String {
        let class = self.index()["_class_name"].as_str().unwrap_or_default().to_string();
        let variant = match class.as_str() {
            class if class.contains("DiffusionForcing") => "df",
            class if class.contains("ImageToVideo") => "i2v",
            _ => "t2v",
        };
        variant.into()
    }

    /// `model_index.json`; null where there is none.
    fn index(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.root.join("model_index.json")).unwrap_or_default();
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
