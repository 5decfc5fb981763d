//! Whether the parts of a model are of one model: each hands the next what it takes.

use super::Checkpoint;
use crate::error::{Error, Result};

/// Checks that what other parts hand to a transformer has the width that it takes.
pub(super) fn check(checkpoint: &Checkpoint, part: &str) -> Result<()> {
    let config = checkpoint.transformer_config(part)?;
    let latents = checkpoint.vae_config()?.z_dim;
    let text = checkpoint.text_encoder_config()?.d_model;
    let mut widths = vec![
        ("out_channels", config.out_channels, "the VAE's z_dim", latents),
        ("text_dim", config.text_dim, "the text encoder's d_model", text),
    ];
    // Four channels of mask and the encoded picture, or neither.
    if config.in_channels != latents {
        let with_picture = 2 * latents + 4;
        widths.push(("in_channels", config.in_channels, "2 z_dim + 4 of the VAE", with_picture));
    }
    if let Some(width) = config.image_dim {
        let encoder = checkpoint.image_encoder_config()?.hidden_size;
        widths.push(("image_dim", width, "the image encoder's hidden_size", encoder));
    }
    match widths.iter().find(|(_, ours, _, theirs)| ours != theirs) {
        None => Ok(()),
        Some((name, ours, what, theirs)) => Err(Error::model_file(format!(
            "{part}: its {name} is {ours}, {what} is {theirs}: these are parts of different models"
        ))),
    }
}
