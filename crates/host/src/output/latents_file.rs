//! Latents on disk, with the sidecar so far: what decoding can finish from.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use wan_media::write_whole_file;

use crate::error::{Error, Result};
use crate::output::sidecar::Sidecar;

const TENSOR: &str = "latents";
const METADATA: &str = "wan";

impl Sidecar {
    /// Saves latents `[1, C, F, H, W]` (f32) with what is known of their making so far.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_latents(&self, path: &Path, latents: &Tensor) -> Result<()> {
        let report = serde_json::to_string(self).map_err(|e| Error::invalid(e.to_string()))?;
        let metadata = HashMap::from([(METADATA.to_string(), report)]);
        let bytes = safetensors::serialize([(TENSOR, latents)], Some(metadata))
            .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        write_whole_file(path, &bytes).map_err(Error::io(path))
    }

    /// Reads what [`write_latents`](Self::write_latents) saved.
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
        let report = serde_json::from_str(report).map_err(|e| wrong(format!("its report: {e}")))?;
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let latents = tensors.remove(TENSOR).ok_or_else(|| wrong("holds no latents".into()))?;
        Ok((latents, report))
    }
}
