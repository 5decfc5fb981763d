//! Shape of a CLIP vision model.

use serde::{Deserialize, Serialize};

use wan_border::numbers::{Heads, Layers, Positions, Side, Width};

use crate::config::in_range;
use crate::error::{Error, Result};

/// `config.json` of a CLIP vision model (transformers' names). Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipVisionConfig {
    /// Width of a hidden state.
    pub hidden_size: usize,
    /// Inner width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Colours of a picture.
    #[serde(default = "rgb")]
    pub num_channels: usize,
    /// Height and width of a picture.
    pub image_size: usize,
    /// Height and width of a patch.
    pub patch_size: usize,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Epsilon of every norm.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
}

fn rgb() -> usize {
    3
}

fn epsilon() -> f64 {
    1e-5
}

/// Activation of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x/2 (1 + erf(x / sqrt 2))`: open-clip.
    Gelu,
    /// `x sigmoid(1.702 x)`: OpenAI.
    QuickGelu,
}

impl ClipVisionConfig {
    /// ViT-H/14, the image encoder of every published Wan 2.1 and SkyReels-V2 I2V model.
    pub fn vit_h_14() -> Self {
        Self {
            hidden_size: 1280,
            intermediate_size: 5120,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            num_channels: rgb(),
            image_size: 224,
            patch_size: 14,
            hidden_act: Activation::Gelu,
            layer_norm_eps: epsilon(),
        }
    }

    /// Tokens of a picture: the class token and one token per patch.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        if self.num_hidden_layers == 0 {
            return refuse("num_hidden_layers: starts at 1");
        }
        if self.num_attention_heads == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return refuse("num_attention_heads: does not divide hidden_size");
        }
        if self.patch_size == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            return refuse("patch_size: does not divide image_size");
        }
        in_range("num_hidden_layers", Layers::new(self.num_hidden_layers))?;
        in_range("num_attention_heads", Heads::new(self.num_attention_heads))?;
        in_range("image_size", Side::new(self.image_size))?;
        let widths = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_channels", self.num_channels),
        ];
        widths.iter().try_for_each(|(field, width)| in_range(field, Width::new(*width)))?;
        in_range("patches of a picture", Positions::new(self.tokens()))
    }
}
