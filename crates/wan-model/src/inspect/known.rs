//! The published networks, and networks of other sizes derived from their shapes.

use std::sync::LazyLock;

use super::network::Network;
use crate::clip::ClipVisionConfig;
use crate::config::{self, WanConfig};
use crate::published;
use crate::umt5::Umt5Config;
use crate::vae::VaeConfig;
use crate::weights::Weights;

/// A published network.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its name in flags: `t2v-1.3B`.
    pub id: &'static str,
    /// Its publisher and its published name.
    pub title: &'static str,
    /// Its kind and config.
    pub network: Network,
}

/// All published networks. Some have equal tensors.
pub fn known() -> Vec<Known> {
    let vaes = [
        ("vae-2.1", "Wan 2.1 VAE", VaeConfig::wan_2_1()),
        ("vae-2.2", "Wan 2.2 VAE", VaeConfig::wan_2_2()),
    ];
    let transformers = published::all().iter().map(|model| Known {
        id: &model.id,
        title: &model.title,
        network: Network::Transformer(model.transformer.clone()),
    });
    let mut known: Vec<_> = transformers.collect();
    known.extend(vaes.map(|(id, title, config)| Known {
        id,
        title,
        network: Network::Vae(config),
    }));
    known.push(Known {
        id: "umt5-xxl",
        title: "UMT5-XXL text encoder",
        network: Network::TextEncoder(Umt5Config::xxl()),
    });
    known.push(Known {
        id: "clip-vit-h-14",
        title: "open-clip ViT-H/14 image encoder",
        network: Network::ImageEncoder(ClipVisionConfig::vit_h_14()),
    });
    known
}

/// All published networks, each with the number of its tensors: their names need not be made to see
/// that a file has too few.
pub(super) static COUNTED: LazyLock<Vec<(Known, usize)>> = LazyLock::new(|| {
    let counted = |known: Known| {
        let count = known.network.tensors().len();
        (known, count)
    };
    known().into_iter().map(counted).collect()
});

/// Derives a network of another size from the shapes.
pub(super) fn infer(weights: &Weights) -> Option<Network> {
    let shapes = Shapes(weights);
    shapes
        .transformer()
        .map(Network::Transformer)
        .or_else(|| shapes.vae().map(Network::Vae))
        .or_else(|| shapes.text_encoder().map(Network::TextEncoder))
        .or_else(|| shapes.image_encoder().map(Network::ImageEncoder))
        .filter(|network| network.check().is_ok())
}

struct Shapes<'a>(&'a Weights);

impl Shapes<'_> {
    /// Length of one axis of a tensor.
    fn axis(&self, name: &str, axis: usize) -> Option<usize> {
        self.0.shape(name)?.get(axis).copied()
    }

    fn has(&self, name: &str) -> bool {
        self.0.shape(name).is_some()
    }

    /// Number of layers named `{start}{number}.`.
    fn layers(&self, start: &str) -> usize {
        let number = |name: &str| name.strip_prefix(start)?.split('.').next()?.parse().ok();
        let numbers = self.0.names().into_iter().filter_map(number);
        numbers.max().map_or(0, |last: usize| last.saturating_add(1))
    }

    /// The width of heads is not in the file; it is 128 in all published transformers.
    fn transformer(&self) -> Option<WanConfig> {
        const HEAD: usize = 128;
        let patches = "patch_embedding.weight";
        let (dim, patch) = (self.axis(patches, 0)?, self.0.shape(patches)?.get(2..5)?);
        let patch: [usize; 3] = patch.try_into().ok()?;
        let image = "condition_embedder.image_embedder";
        let heads = if dim.is_multiple_of(HEAD) { dim / HEAD } else { 1 };
        let pixels = patch.iter().try_fold(1_usize, |all, side| all.checked_mul(*side))?.max(1);
        Some(WanConfig {
            patch_size: patch,
            num_attention_heads: heads.max(1),
            attention_head_dim: dim / heads.max(1),
            in_channels: self.axis(patches, 1)?,
            out_channels: self.axis("proj_out.weight", 0)? / pixels,
            text_dim: self.axis("condition_embedder.text_embedder.linear_1.weight", 1)?,
            freq_dim: self.axis("condition_embedder.time_embedder.linear_1.weight", 1)?,
            ffn_dim: self.axis("blocks.0.ffn.net.0.proj.weight", 0)?,
            num_layers: self.layers("blocks."),
            cross_attn_norm: self.has("blocks.0.norm2.weight"),
            image_dim: self.axis(&format!("{image}.norm1.weight"), 0),
            added_kv_proj_dim: self.axis("blocks.0.attn2.add_k_proj.weight", 1),
            pos_embed_seq_len: self.axis(&format!("{image}.pos_embed"), 1),
            inject_sample_info: self.has("fps_embedding.weight"),
            eps: config::small(),
            rope_max_seq_len: config::rope_length(),
            num_frame_per_block: config::one(),
        })
    }

    /// Levels as in the published VAEs. The statistics of the latents are not in the file: mean 0
    /// and deviation 1.
    fn vae(&self) -> Option<VaeConfig> {
        let residual = self.has("encoder.down_blocks.0.resnets.0.conv1.weight");
        let published = if residual { VaeConfig::wan_2_2() } else { VaeConfig::wan_2_1() };
        let z_dim = self.axis("decoder.conv_in.weight", 1)?;
        let base_dim = self.axis("encoder.conv_in.weight", 0)?;
        let decoder = self.axis("decoder.norm_out.gamma", 0)?;
        Some(VaeConfig {
            base_dim,
            decoder_base_dim: (decoder != base_dim).then_some(decoder),
            z_dim,
            latents_mean: vec![0.; z_dim],
            latents_std: vec![1.; z_dim],
            in_channels: self.axis("encoder.conv_in.weight", 1)?,
            out_channels: self.axis("decoder.conv_out.weight", 0)?,
            ..published
        })
    }

    fn text_encoder(&self) -> Option<Umt5Config> {
        let own = "encoder.block.0.layer.0.SelfAttention";
        let table = ["shared.weight", "encoder.embed_tokens.weight"];
        let table = table.into_iter().find(|table| self.has(table))?;
        let num_heads = self.axis(&format!("{own}.relative_attention_bias.weight"), 1)?;
        Some(Umt5Config {
            vocab_size: self.axis(table, 0)?,
            d_model: self.axis(table, 1)?,
            d_kv: self.axis(&format!("{own}.q.weight"), 0)? / num_heads.max(1),
            d_ff: self.axis("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0)?,
            num_layers: self.layers("encoder.block."),
            num_heads,
            relative_attention_num_buckets: self
                .axis(&format!("{own}.relative_attention_bias.weight"), 0)?,
            ..Umt5Config::xxl()
        })
    }

    /// The width of heads is not in the file: 80 in ViT-H, 64 in all others.
    fn image_encoder(&self) -> Option<ClipVisionConfig> {
        let patches = "vision_model.embeddings.patch_embedding.weight";
        let (hidden_size, patch_size) = (self.axis(patches, 0)?, self.axis(patches, 2)?);
        let tokens = self.axis("vision_model.embeddings.position_embedding.weight", 0)?;
        let head = if hidden_size == 1280 { 80 } else { 64 };
        Some(ClipVisionConfig {
            hidden_size,
            intermediate_size: self.axis("vision_model.encoder.layers.0.mlp.fc1.weight", 0)?,
            num_hidden_layers: self.layers("vision_model.encoder.layers."),
            num_attention_heads: (hidden_size / head).max(1),
            num_channels: self.axis(patches, 1)?,
            image_size: tokens.saturating_sub(1).isqrt().saturating_mul(patch_size),
            patch_size,
            ..ClipVisionConfig::vit_h_14()
        })
    }
}
