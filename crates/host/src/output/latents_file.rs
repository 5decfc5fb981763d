//! Latents on disk, with the sidecar so far: what decoding can finish from.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use wan_border::files;
use wan_border::numbers::POSITIONS_MAX;
use wan_model::weights::{Encoding, FileError, WeightFile, read_tensor};
use wan_outputs::{Claim, Kept, Wanted};

use crate::error::{Error, Result};
use crate::output::sidecar::{SIDECAR_BYTES, Sidecar, latents_hash};
use crate::request::file_hash::sha256_of_weights;

pub(crate) const TENSOR: &str = "latents";
pub(crate) const METADATA: &str = "wan";

/// Saved latents, and SHA-256 of the file that they were read from.
pub(crate) struct HashedLatents {
    /// `[1, C, F, H, W]`.
    pub(crate) latents: Tensor,
    /// What is known of their making.
    pub(crate) sidecar: Sidecar,
    /// Of all bytes of the file.
    pub(crate) hash: String,
}

fn open(path: &Path) -> Result<WeightFile> {
    // They are the user's, not the model's.
    WeightFile::open(path).map_err(not_read)
}

fn not_read(error: FileError) -> Error {
    match error {
        FileError::File(error) => error.into(),
        other => Error::invalid(other.to_string()),
    }
}

impl Sidecar {
    /// What [`save_latents`](Self::save_latents) writes for latents of so many bytes.
    pub fn wanted_latents(path: &Path, bytes: u64) -> Wanted {
        let is_ours = |path: &Path| {
            WeightFile::open(path).is_ok_and(|file| file.metadata().contains_key(METADATA))
        };
        let bytes = bytes.saturating_add(SIDECAR_BYTES);
        let (field, path) = ("save_file".into(), path.into());
        Wanted { field, path, is_ours, bytes, temporary_in: None }
    }

    /// Saves latents `[1, C, F, H, W]` (f32) with what is known of their making so far.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_latents(&self, claim: Claim, latents: &Tensor) -> Result<Kept> {
        let report = serde_json::to_string(self).map_err(|e| Error::invalid(e.to_string()))?;
        let metadata = HashMap::from([(METADATA.to_string(), report)]);
        let bytes = safetensors::serialize([(TENSOR, latents)], Some(metadata))
            .map_err(|e| Error::invalid(format!("{}: {e}", claim.path().display())))?;
        Ok(claim.write(&bytes)?)
    }

    /// Reads what [`save_latents`](Self::save_latents) saved.
    ///
    /// # Errors
    /// If it is missing, truncated or not of this program.
    pub fn read_latents(path: &Path) -> Result<(Tensor, Self)> {
        Self::latents_of(&open(path)?)
    }

    /// As [`read_latents`](Self::read_latents), with what the file is known by.
    ///
    /// # Errors
    /// As there, and if the file is written to meanwhile.
    pub(crate) fn read_hashed_latents(path: &Path) -> Result<HashedLatents> {
        let file = open(path)?;
        let hash = sha256_of_weights(&file).map_err(not_read)?;
        let (latents, sidecar) = Self::latents_of(&file)?;
        if file.written_to().map_err(not_read)?.is_some() {
            return Err(files::Error::Changed { path: path.into() }.into());
        }
        Ok(HashedLatents { latents, sidecar, hash })
    }

    fn latents_of(file: &WeightFile) -> Result<(Tensor, Self)> {
        let wrong = |why: String| Error::invalid(format!("{}: {why}", file.path().display()));
        let report = file
            .metadata()
            .get(METADATA)
            .ok_or_else(|| wrong("was not saved by `wan generate`".into()))?;
        let sidecar = Self::of_text(report).map_err(|why| wrong(format!("its report: {why}")))?;
        let number = file.find(TENSOR).ok_or_else(|| wrong("holds no latents".into()))?;
        let info = &file.tensors()[number];
        let [1, channels, rest @ ..] = info.shape.as_slice() else {
            return Err(wrong(format!(
                "latents of shape {:?}, expected [1, C, F, H, W]",
                info.shape
            )));
        };
        let places = rest.iter().try_fold(1_u64, |all, n| all.checked_mul(u64::try_from(*n).ok()?));
        let fits = rest.len() == 3 && places.is_some_and(|n| (1..=POSITIONS_MAX).contains(&n));
        if !fits || *channels == 0 || info.encoding != Encoding::F32 {
            return Err(wrong(format!(
                "latents of shape {:?} in {}, expected [1, C, F, H, W] in F32",
                info.shape,
                info.encoding.name()
            )));
        }
        let latents = read_tensor(file, number)?;
        if latents_hash(&latents)? != sidecar.latents_hash {
            return Err(wrong(
                "its latents are not those that its report is of (`latents_hash`)".into(),
            ));
        }
        Ok((latents, sidecar))
    }
}
