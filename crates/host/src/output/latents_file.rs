//! Latents on disk, with the sidecar so far: what decoding can finish from.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use wan_border::numbers::POSITIONS_MAX;
use wan_model::weights::WeightFile;
use wan_outputs::{Claim, Kept, Wanted};

use crate::error::{Error, Result};
use crate::output::sidecar::{Sidecar, latents_hash};

const TENSOR: &str = "latents";
const METADATA: &str = "wan";

impl Sidecar {
    /// What [`save_latents`](Self::save_latents) writes, of about so many bytes.
    pub fn wanted_latents(path: &Path, bytes: u64) -> Wanted {
        let is_ours = |path: &Path| {
            let has = |(_, header): (_, Metadata)| {
                header.metadata().as_ref().is_some_and(|text| text.contains_key(METADATA))
            };
            WeightFile::open(path).is_ok_and(has)
        };
        Wanted { field: "save_file".into(), path: path.into(), is_ours, bytes }
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
        let wrong = |why: String| Error::invalid(format!("{}: {why}", path.display()));
        // They are the user's, not the model's.
        let (file, header) = WeightFile::open(path).map_err(|error| match error {
            wan_model::Error::File(error) => error.into(),
            other => Error::invalid(other.to_string()),
        })?;
        let report = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(METADATA))
            .ok_or_else(|| wrong("was not saved by `wan generate`".into()))?;
        let sidecar = Self::of_text(report).map_err(|why| wrong(format!("its report: {why}")))?;
        let info = header.info(TENSOR).ok_or_else(|| wrong("holds no latents".into()))?;
        let [1, channels, rest @ ..] = info.shape.as_slice() else {
            return Err(wrong(format!(
                "latents of shape {:?}, expected [1, C, F, H, W]",
                info.shape
            )));
        };
        let places = rest.iter().try_fold(1_u64, |all, n| all.checked_mul(u64::try_from(*n).ok()?));
        let fits = rest.len() == 3 && places.is_some_and(|n| (1..=POSITIONS_MAX).contains(&n));
        if !fits || *channels == 0 || info.dtype != Dtype::F32 {
            return Err(wrong(format!(
                "latents of shape {:?} in {:?}, expected [1, C, F, H, W] in F32",
                info.shape, info.dtype
            )));
        }
        let bytes = file.read(info.data_offsets.0..info.data_offsets.1)?;
        let dtype = candle_core::DType::F32;
        let latents = Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?;
        if latents_hash(&latents)? != sidecar.latents_hash {
            return Err(wrong(
                "its latents are not those that its report is of (`latents_hash`)".into(),
            ));
        }
        Ok((latents, sidecar))
    }
}
