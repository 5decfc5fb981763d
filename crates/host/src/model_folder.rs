//! A model on disk: a diffusers folder, and the defaults that lie in it.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wan_plugin_api::OptionValues;

use crate::error::{Error, Result};
use crate::loader::hex;

/// Name of the file with a folder's defaults.
const DEFAULTS_FILE: &str = "wan.toml";

/// Bytes hashed at each of [`FINGERPRINT_PLACES`] places of a weight file.
const FINGERPRINT_CHUNK: u64 = 1 << 20;
const FINGERPRINT_PLACES: u64 = 64;

/// A diffusers model folder.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    root: PathBuf,
    /// What is used where the user gives no flag.
    pub defaults: Defaults,
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
#[derive(Debug, Clone, Deserialize)]
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
    pub fps: f64,
    pub sampler: Option<String>,
    pub cache: Option<String>,
}

impl Default for GenerateDefaults {
    fn default() -> Self {
        Self {
            prompt: None,
            negative_prompt: String::new(),
            size: "832*480".into(),
            frame_num: 81,
            sample_steps: 50,
            sample_shift: 5.0,
            sample_guide_scale: 5.0,
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
    /// If it is not a diffusers model folder, or `wan.toml` is malformed.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.join("transformer/config.json").is_file() {
            return Err(Error::invalid(format!(
                "{}: not a model folder (transformer/config.json is missing); \
                 --ckpt_dir names a folder in diffusers' layout",
                root.display()
            )));
        }
        let path = root.join(DEFAULTS_FILE);
        let defaults = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|e| Error::invalid(format!("{}: {}", path.display(), e.message())))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Defaults::default(),
            Err(e) => return Err(Error::Io { path, source: e }),
        };
        Ok(Self { root: root.to_path_buf(), defaults })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads `part/config.json`.
    ///
    /// # Errors
    /// If it is missing or malformed.
    pub fn config<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        let path = self.root.join(part).join("config.json");
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        serde_json::from_str(&text).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
    }

    /// Length that prompts are padded to; Wan's 512 unless `model_index.json` says otherwise.
    pub fn max_sequence_length(&self) -> usize {
        let length = self.index()["max_sequence_length"].as_u64();
        length.map_or(512, |length| length as usize)
    }

    /// Timestep at and above which the first of two experts runs: `boundary_ratio` of
    /// `model_index.json`; none where there is one transformer.
    pub fn boundary_timestep(&self) -> Option<f64> {
        self.index()["boundary_ratio"].as_f64().map(|ratio| ratio * 1000.0)
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

    /// `tokenizer/tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer/tokenizer.json")
    }

    /// The safetensors files of a part, in order of name.
    ///
    /// # Errors
    /// If there is none.
    pub fn weights(&self, part: &str) -> Result<Vec<PathBuf>> {
        let folder = self.root.join(part);
        let entries = fs::read_dir(&folder).map_err(Error::io(&folder))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        match files.is_empty() {
            true => Err(Error::invalid(format!("{}: no .safetensors file", folder.display()))),
            false => Ok(files),
        }
    }

    /// SHA-256 over size and contents of all weight files; of a file above 64 MiB, over a
    /// mebibyte at each of 64 evenly spaced places (header included), so that 28 GB take
    /// a blink. Tells models apart and notices a swapped file; it is no proof of integrity.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let optional = ["image_encoder", "transformer_2"];
        let optional = optional.into_iter().filter(|part| self.root.join(part).is_dir());
        for part in ["text_encoder", "transformer", "vae"].into_iter().chain(optional) {
            for path in self.weights(part)? {
                hash_file(&path, &mut hash).map_err(Error::io(&path))?;
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
