//! Shape of a Wan or SkyReels-V2 transformer, in the form of diffusers' `config.json` (diffusers
//! 0.42.1, `WanTransformer3DModel` and `SkyReelsV2Transformer3DModel`). The published sizes are in
//! [`published`](crate::published).

use serde::{Deserialize, Serialize};
use wan_border::numbers::{Heads, Layers, OutOfRange, Patch, Positions, Width};

use crate::error::{Error, Result};

/// `config.json` of a transformer folder. Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WanConfig {
    /// Latent frames, rows and columns that one token covers.
    pub patch_size: [usize; 3],
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of one head; even, so that it splits into rotary pairs.
    pub attention_head_dim: usize,
    /// Input channels (16; 36 with an image condition; 48 for TI2V-5B).
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Width of the text encoder's output.
    pub text_dim: usize,
    /// Width of the timestep sinusoid; even.
    pub freq_dim: usize,
    /// Inner width of the feed-forward layers.
    pub ffn_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether cross-attention is preceded by an affine layer norm.
    #[serde(default = "yes")]
    pub cross_attn_norm: bool,
    /// Epsilon of every norm.
    #[serde(default = "small")]
    pub eps: f64,
    /// Width of the image encoder's output, for models that take image tokens.
    #[serde(default)]
    pub image_dim: Option<usize>,
    /// Width of the image tokens' key and value projections; equal to [`dim`](Self::dim) if
    /// present.
    #[serde(default)]
    pub added_kv_proj_dim: Option<usize>,
    /// Longest axis, in patches, that the rotary table covers.
    #[serde(default = "rope_length")]
    pub rope_max_seq_len: usize,
    /// Length of the learned position table of first-and-last-frame models: the tokens of both
    /// images.
    #[serde(default)]
    pub pos_embed_seq_len: Option<usize>,
    /// Whether the model was trained with the frame rate as a condition (SkyReels-V2 1.3B DF).
    #[serde(default)]
    pub inject_sample_info: bool,
    /// Latent frames per block of the block-causal mask; 1 is no mask.
    #[serde(default = "one")]
    pub num_frame_per_block: usize,
}

fn yes() -> bool {
    true
}

pub(crate) fn small() -> f64 {
    1e-6
}

pub(crate) fn rope_length() -> usize {
    1024
}

pub(crate) fn one() -> usize {
    1
}

impl WanConfig {
    /// Width of a token: heads times head width.
    pub fn dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Whether the model attends to image tokens beside the text.
    pub fn takes_image_tokens(&self) -> bool {
        self.image_dim.is_some()
    }

    /// Refuses configs that no Wan model has. Called before any weight is read.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config(reason));
        if self.patch_size.contains(&0) || self.num_attention_heads == 0 || self.num_layers == 0 {
            return refuse("patch_size, num_attention_heads and num_layers start at 1".to_owned());
        }
        if !self.attention_head_dim.is_multiple_of(2) || self.attention_head_dim < 6 {
            let found = self.attention_head_dim;
            return refuse(format!("attention_head_dim: {found} does not split into 3 axes"));
        }
        if !self.freq_dim.is_multiple_of(2) || self.freq_dim == 0 {
            return refuse(format!("freq_dim: {} is not an even number", self.freq_dim));
        }
        self.check_ranges()?;
        if self.added_kv_proj_dim != self.image_dim.map(|_| self.dim()) {
            let (dim, image, added) = (self.dim(), self.image_dim, self.added_kv_proj_dim);
            return refuse(format!(
                "added_kv_proj_dim: {dim} with image_dim and absent without, got {added:?} with \
                 image_dim {image:?}"
            ));
        }
        if self.pos_embed_seq_len.is_some_and(|tokens| self.image_dim.is_none() || tokens % 2 != 0)
        {
            return refuse("pos_embed_seq_len: an even number, beside image_dim".to_owned());
        }
        Ok(())
    }

    /// So that no product of these numbers overflows.
    fn check_ranges(&self) -> Result<()> {
        self.patch_size.iter().try_for_each(|side| in_range("patch_size", Patch::new(*side)))?;
        in_range("num_attention_heads", Heads::new(self.num_attention_heads))?;
        in_range("num_layers", Layers::new(self.num_layers))?;
        let widths = [
            ("attention_head_dim", self.attention_head_dim),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("text_dim", self.text_dim),
            ("freq_dim", self.freq_dim),
            ("ffn_dim", self.ffn_dim),
            ("image_dim", self.image_dim.unwrap_or(1)),
        ];
        widths.iter().try_for_each(|(field, width)| in_range(field, Width::new(*width)))?;
        in_range("num_attention_heads times attention_head_dim", Width::new(self.dim()))?;
        let positions = [
            ("rope_max_seq_len", self.rope_max_seq_len),
            ("num_frame_per_block", self.num_frame_per_block),
            ("pos_embed_seq_len", self.pos_embed_seq_len.unwrap_or(1)),
        ];
        positions.iter().try_for_each(|(field, count)| in_range(field, Positions::new(*count)))
    }
}

/// A number of a config that has to be in its range.
pub(crate) fn in_range<T>(field: &str, made: Result<T, OutOfRange>) -> Result<()> {
    made.map(drop).map_err(|error| Error::Config(format!("{field}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diffusers_json_is_read_and_the_rest_ignored() {
        let text = r#"{"_class_name": "WanTransformer3DModel", "_use_default_values": ["eps"],
            "patch_size": [1, 2, 2], "num_attention_heads": 2, "attention_head_dim": 12,
            "in_channels": 16, "out_channels": 16, "text_dim": 8, "freq_dim": 8, "ffn_dim": 16,
            "num_layers": 1, "qk_norm": "rms_norm_across_heads", "image_dim": null}"#;
        let config: WanConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.dim(), config.eps, config.num_frame_per_block), (24, 1e-6, 1));
        assert!(config.cross_attn_norm && !config.inject_sample_info);
        config.check().unwrap();
    }
}
