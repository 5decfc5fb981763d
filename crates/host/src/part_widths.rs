//! Whether the parts of a model are of one model: each hands the next what it takes.

use wan_model::WanConfig;

use crate::error::{Error, Result};
use crate::model_folder::ModelFolder;

/// Checks that what other parts hand to a transformer has the width that it takes.
pub(crate) fn check_widths(folder: &ModelFolder, part: &str, config: &WanConfig) -> Result<()> {
    let latents = folder.vae_config()?.z_dim;
    let mut widths = vec![
        ("out_channels", config.out_channels, "the VAE's z_dim", latents),
        (
            "text_dim",
            config.text_dim,
            "the text encoder's d_model",
            folder.text_encoder_config()?.d_model,
        ),
    ];
    // Four channels of mask and the encoded picture, or neither.
    if config.in_channels != latents {
        let with_picture = 2 * latents + 4;
        widths.push(("in_channels", config.in_channels, "2 z_dim + 4 of the VAE", with_picture));
    }
    if let Some(width) = config.image_dim {
        let encoder = folder.image_encoder_config()?.hidden_size;
        widths.push(("image_dim", width, "the image encoder's hidden_size", encoder));
    }
    match widths.iter().find(|(_, ours, _, theirs)| ours != theirs) {
        None => Ok(()),
        Some((name, ours, what, theirs)) => Err(Error::invalid(format!(
            "{part}: its {name} is {ours}, {what} is {theirs}: these are parts of different models"
        ))),
    }
}
