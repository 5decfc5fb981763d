//! Latents on disk, with the sidecar so far: what decoding can finish from.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
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
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| wrong(format!("not a complete safetensors file ({e})")))?;
        let report = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(METADATA))
            .ok_or_else(|| wrong("was not saved by `wan generate`".into()))?;
        let report: Self =
            serde_json::from_str(report).map_err(|e| wrong(format!("its report: {e}")))?;
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let latents = tensors.remove(TENSOR).ok_or_else(|| wrong("holds no latents".into()))?;
        if latents_hash(&latents)? != report.latents_hash {
            return Err(wrong(
                "its latents are not those that its report is of (`latents_hash`)".into(),
            ));
        }
        Ok((latents, report))
    }
}
