//! Kind `vae`: encode and decode of clips of several lengths, whole and in tiles.

use super::{Case, Compare};
use anyhow::Context;
use wan_model::vae::{Posterior, Tiling, Vae, VaeConfig};

/// Encodes every `in.video_*` and decodes every `in.latent_*` of a case.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: VaeConfig = serde_json::from_value(case.config.clone())?;
    let vae = Vae::load(config, case.weights()?)?;
    for (name, tensor) in &case.io {
        if let Some(frames) = name.strip_prefix("in.video_") {
            let Posterior { mean, logvar } = vae.encode(tensor)?;
            compare.tensor(&format!("out.encode_{frames}.mean"), &mean)?;
            compare.tensor(&format!("out.encode_{frames}.logvar"), &logvar)?;
        } else if let Some(frames) = name.strip_prefix("in.latent_") {
            compare.tensor(&format!("out.decode_{frames}"), &vae.decode(tensor)?)?;
        }
    }
    tiled(case, &vae, compare)
}

/// Encodes and decodes in tiles what `tiling` of `case.json` names.
fn tiled(case: &Case, vae: &Vae, compare: &mut Compare) -> anyhow::Result<()> {
    let tiling = &case.description["tiling"];
    if tiling.is_null() {
        return Ok(());
    }
    let number = |key: &str| tiling[key].as_u64().with_context(|| format!("tiling has no {key}"));
    let tiles = Tiling { min: number("min")? as usize, stride: number("stride")? as usize };
    let (frames, latents) = (number("frames")?, number("latent_frames")?);
    let posterior = vae.encode_tiled(case.tensor(&format!("in.video_{frames}"))?, tiles)?;
    compare.tensor(&format!("out.tiled_encode_{frames}.mean"), &posterior.mean)?;
    let video = vae.decode_tiled(case.tensor(&format!("in.latent_{latents}"))?, tiles)?;
    compare.tensor(&format!("out.tiled_decode_{latents}"), &video)
}
