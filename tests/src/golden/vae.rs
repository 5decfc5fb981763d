//! Kind `vae`: encode and decode of clips of several lengths.

use wan_model::vae::{Posterior, Vae, VaeConfig};

use super::{Case, Compare, NotSupported};

/// Encodes every `in.video_*` and decodes every `in.latent_*` of a case.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: VaeConfig = serde_json::from_value(case.config.clone())?;
    if config.is_residual {
        return Err(NotSupported("the residual VAE of Wan 2.2".to_owned()).into());
    }
    if !case.description["tiling"].is_null() {
        return Err(NotSupported("tiled encoding and decoding".to_owned()).into());
    }
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
    Ok(())
}
