//! Shape of a UMT5 text encoder.

use serde::{Deserialize, Serialize};

use wan_border::numbers::{Heads, Layers, Positions, Vocabulary, Width};

use crate::config::in_range;
use crate::error::{Error, Result};

/// `config.json` of a UMT5 text encoder (transformers' names). Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Umt5Config {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of a hidden state.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Inner width of the feed-forward layers.
    pub d_ff: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// Attention heads; `num_heads * d_kv` need not be `d_model`.
    pub num_heads: usize,
    /// Rows of the relative position table, half of them for each direction.
    pub relative_attention_num_buckets: usize,
    /// Distance from which all positions share a bucket.
    pub relative_attention_max_distance: usize,
    /// Epsilon of every norm.
    pub layer_norm_epsilon: f64,
}

impl Umt5Config {
    /// UMT5-XXL, the text encoder of every published Wan and SkyReels-V2 model.
    pub fn xxl() -> Self {
        Self {
            vocab_size: 256_384,
            d_model: 4096,
            d_kv: 64,
            d_ff: 10_240,
            num_layers: 24,
            num_heads: 64,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        let buckets = self.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(4) {
            return refuse("relative_attention_num_buckets: not a multiple of 4");
        }
        if self.relative_attention_max_distance <= buckets / 4 {
            return refuse("relative_attention_max_distance: not beyond the exact buckets");
        }
        in_range("vocab_size", Vocabulary::new(self.vocab_size))?;
        in_range("num_layers", Layers::new(self.num_layers))?;
        in_range("num_heads", Heads::new(self.num_heads))?;
        in_range("relative_attention_num_buckets", Positions::new(buckets))?;
        let distance = Positions::new(self.relative_attention_max_distance);
        in_range("relative_attention_max_distance", distance)?;
        let widths = [("d_model", self.d_model), ("d_kv", self.d_kv), ("d_ff", self.d_ff)];
        widths.iter().try_for_each(|(field, width)| in_range(field, Width::new(*width)))?;
        in_range("num_heads times d_kv", Width::new(self.num_heads * self.d_kv))
    }
}
