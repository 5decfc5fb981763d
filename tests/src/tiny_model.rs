//! Tiny models: the layout, the configs and the tensor names of the published ones, a few numbers
//! wide, with seeded random weights. They show nothing, but everything in them is computed with.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use candle_core::{Device, Tensor};
use serde::Serialize;
use serde_json::{Value, json};
use wan_model::WanConfig;
use wan_model::clip::ClipVisionConfig;
use wan_model::inspect::Network;
use wan_model::published::find;
use wan_model::umt5::Umt5Config;
use wan_model::vae::VaeConfig;

use crate::checkout::checkout;

/// A model folder in diffusers' layout.
pub struct TinyModel {
    /// `_class_name` of `model_index.json`.
    class: &'static str,
    transformer: WanConfig,
    /// `boundary_ratio` of `model_index.json`; then there are two transformers, in shards.
    boundary_ratio: Option<f64>,
    vae: VaeConfig,
    /// `flow_shift` of the scheduler's config.
    flow_shift: f64,
}

impl TinyModel {
    /// Wan 2.1 T2V.
    pub fn t2v() -> Self {
        Self {
            class: "WanPipeline",
            transformer: tiny(published("t2v-14B")),
            boundary_ratio: None,
            vae: VaeConfig { base_dim: 4, num_res_blocks: 1, ..VaeConfig::wan_2_1() },
            flow_shift: 7.0,
        }
    }

    /// The same with as few tensors as there can be: a VAE of two levels, which halves sides and
    /// frames. Where headers are read very often.
    pub fn least() -> Self {
        let tiny = Self::t2v();
        let vae = VaeConfig {
            dim_mult: vec![1, 2],
            temperal_downsample: vec![true],
            scale_factor_temporal: 2,
            scale_factor_spatial: 2,
            ..tiny.vae
        };
        Self { vae, ..tiny }
    }

    /// Wan 2.1 I2V, with image tokens.
    pub fn i2v() -> Self {
        let transformer = tiny(published("i2v-14B"));
        Self { class: "WanImageToVideoPipeline", transformer, ..Self::t2v() }
    }

    /// Wan 2.1 FLF2V: image tokens of both ends, with positions.
    pub fn flf2v() -> Self {
        let transformer = tiny(published("flf2v-14B"));
        Self { class: "WanImageToVideoPipeline", transformer, ..Self::t2v() }
    }

    /// Wan 2.2 T2V-A14B.
    pub fn t2v_a14b() -> Self {
        Self { boundary_ratio: Some(0.875), ..Self::t2v() }
    }

    /// Wan 2.2 I2V-A14B, whose picture comes through channels alone.
    pub fn i2v_a14b() -> Self {
        let transformer = tiny(published("i2v-A14B"));
        let (class, boundary_ratio) = ("WanImageToVideoPipeline", Some(0.9));
        Self { class, transformer, boundary_ratio, ..Self::t2v() }
    }

    /// Wan 2.2 TI2V-5B, with the VAE of 48 channels.
    pub fn ti2v_5b() -> Self {
        let vae = VaeConfig {
            base_dim: 4,
            decoder_base_dim: Some(8),
            num_res_blocks: 1,
            ..VaeConfig::wan_2_2()
        };
        Self { transformer: tiny(published("ti2v-5B")), vae, ..Self::t2v() }
    }

    /// SkyReels-V2 I2V.
    pub fn sky_i2v() -> Self {
        let transformer = tiny(published("i2v-1.3B"));
        Self { class: "SkyReelsV2ImageToVideoPipeline", transformer, ..Self::t2v() }
    }

    /// SkyReels-V2 diffusion forcing, with its frame-rate embedding.
    pub fn sky_df() -> Self {
        let class = "SkyReelsV2DiffusionForcingImageToVideoPipeline";
        Self { class, transformer: tiny(published("df-1.3B")), ..Self::t2v() }
    }

    /// SkyReels-V2 diffusion forcing at the full width of the 1.3B model and with the full VAE, but
    /// with `blocks` blocks alone: what tensors beside the weights take is as in the whole model.
    pub fn wide_df(blocks: usize) -> Self {
        let transformer = WanConfig {
            text_dim: text_encoder().d_model,
            num_layers: blocks,
            ..published("df-1.3B")
        };
        Self { transformer, vae: VaeConfig::wan_2_1(), ..Self::sky_df() }
    }

    /// The same kind of model with a transformer of 25 MB and a VAE four times as wide: large enough
    /// that what it holds can be told from what a program holds anyway.
    #[must_use]
    pub fn middling(self) -> Self {
        let transformer = WanConfig {
            num_attention_heads: 4,
            attention_head_dim: 64,
            freq_dim: 64,
            ffn_dim: 1024,
            num_layers: 6,
            added_kv_proj_dim: self.transformer.added_kv_proj_dim.map(|_| 256),
            ..self.transformer
        };
        let decoder_base_dim = self.vae.decoder_base_dim.map(|_| 24);
        let vae = VaeConfig { base_dim: 16, decoder_base_dim, ..self.vae };
        Self { transformer, vae, ..self }
    }

    /// The same with so many frequencies of a timestep.
    #[must_use]
    pub fn with_freq_dim(self, freq_dim: usize) -> Self {
        Self { transformer: WanConfig { freq_dim, ..self.transformer }, ..self }
    }

    /// Writes the whole folder, with the demo model's tokenizer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        self.write_from(root, &checkout().join("demo-model"))
    }

    /// As [`write`](Self::write), where the demo model lies elsewhere.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_from(&self, root: &Path, demo: &Path) -> anyhow::Result<()> {
        for (part, network) in self.parts() {
            fs::create_dir_all(root.join(part))?;
            write_json(&root.join(part).join("config.json"), &config(&network)?)?;
            self.write_weights(root, part, 0)?;
        }
        let index = json!({ "_class_name": self.class, "boundary_ratio": self.boundary_ratio });
        write_json(&root.join("model_index.json"), &index)?;
        fs::create_dir_all(root.join("scheduler"))?;
        let scheduler =
            json!({ "_class_name": "UniPCMultistepScheduler", "flow_shift": self.flow_shift });
        write_json(&root.join("scheduler/scheduler_config.json"), &scheduler)?;
        fs::create_dir_all(root.join("tokenizer"))?;
        let name = "tokenizer/tokenizer.json";
        fs::copy(demo.join(name), root.join(name)).context("the demo model's tokenizer")?;
        Ok(())
    }

    /// Writes other weights for a part.
    ///
    /// # Errors
    /// If there is no such part, or it cannot be written.
    pub fn write_weights(&self, root: &Path, part: &str, seed: u64) -> anyhow::Result<()> {
        let parts = self.parts();
        let (_, network) = parts.iter().find(|(name, _)| *name == part).context("no such part")?;
        let salt = part.bytes().map(u64::from).sum::<u64>();
        let mut numbers = Numbers(1000 * seed + salt);
        let tensors = network.tensors().into_iter().map(|(name, shape)| {
            let tensor = numbers.tensor(&name, &shape)?;
            Ok((name, tensor))
        });
        let tensors = tensors.collect::<anyhow::Result<Vec<_>>>()?;
        let stem = match network {
            Network::Transformer(_) | Network::Vae(_) => "diffusion_pytorch_model",
            _ => "model",
        };
        let folder = root.join(part);
        if !part.starts_with("transformer") || self.boundary_ratio.is_none() {
            let whole: HashMap<_, _> = tensors.into_iter().collect();
            let file = folder.join(format!("{stem}.safetensors"));
            return Ok(candle_core::safetensors::save(&whole, file)?);
        }
        let halves = tensors.chunks(tensors.len().div_ceil(2));
        for (number, half) in halves.enumerate() {
            let half: HashMap<_, _> = half.iter().cloned().collect();
            let file = format!("{stem}-{:05}-of-00002.safetensors", number + 1);
            candle_core::safetensors::save(&half, folder.join(file))?;
        }
        Ok(())
    }

    fn parts(&self) -> Vec<(&'static str, Network)> {
        let transformer = Network::Transformer(self.transformer.clone());
        let mut parts = vec![
            ("transformer", transformer.clone()),
            ("vae", Network::Vae(self.vae.clone())),
            ("text_encoder", Network::TextEncoder(text_encoder())),
        ];
        if self.boundary_ratio.is_some() {
            parts.push(("transformer_2", transformer));
        }
        if self.transformer.takes_image_tokens() {
            parts.push(("image_encoder", Network::ImageEncoder(image_encoder())));
        }
        parts
    }
}

/// The transformer of the published model of this id.
fn published(id: &str) -> WanConfig {
    find(id).expect("it is published").transformer.clone()
}

/// The same model with 24 numbers a token and two blocks.
fn tiny(config: WanConfig) -> WanConfig {
    let image_encoder = image_encoder();
    WanConfig {
        num_attention_heads: 2,
        attention_head_dim: 12,
        text_dim: text_encoder().d_model,
        freq_dim: 16,
        ffn_dim: 32,
        num_layers: 2,
        image_dim: config.image_dim.map(|_| image_encoder.hidden_size),
        added_kv_proj_dim: config.added_kv_proj_dim.map(|_| 24),
        pos_embed_seq_len: config.pos_embed_seq_len.map(|_| 2 * image_encoder.tokens()),
        ..config
    }
}

fn text_encoder() -> Umt5Config {
    Umt5Config {
        vocab_size: 64,
        d_model: 16,
        d_kv: 8,
        d_ff: 16,
        num_layers: 1,
        num_heads: 2,
        ..Umt5Config::xxl()
    }
}

fn image_encoder() -> ClipVisionConfig {
    ClipVisionConfig {
        hidden_size: 16,
        intermediate_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: 28,
        ..ClipVisionConfig::vit_h_14()
    }
}

/// `config.json` as diffusers and transformers write it.
///
/// # Errors
/// If a config is none that JSON can hold.
pub fn config(network: &Network) -> anyhow::Result<Value> {
    fn with(config: &impl Serialize, name: &str, value: &str) -> anyhow::Result<Value> {
        let mut config = serde_json::to_value(config)?;
        config[name] = value.into();
        Ok(config)
    }
    match network {
        Network::Transformer(config) if config.inject_sample_info => {
            with(config, "_class_name", "SkyReelsV2Transformer3DModel")
        }
        Network::Transformer(config) => with(config, "_class_name", "WanTransformer3DModel"),
        Network::Vae(config) => with(config, "_class_name", "AutoencoderKLWan"),
        Network::TextEncoder(config) => with(config, "model_type", "umt5"),
        Network::ImageEncoder(config) => with(config, "model_type", "clip_vision_model"),
    }
}

fn write_json(path: &Path, value: &Value) -> anyhow::Result<()> {
    fs::write(path, value.to_string()).with_context(|| path.display().to_string())
}

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    /// Uniform in -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Norms near 1, biases near 0, everything else so that a layer keeps the size of what enters
    /// it.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> anyhow::Result<Tensor> {
        let inputs = shape.iter().skip(1).product::<usize>();
        let (middle, spread) = match name {
            _ if name.ends_with(".bias") => (0.0, 0.1),
            _ if name.ends_with(".gamma") || shape.len() == 1 => (1.0, 0.1),
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        let count = shape.iter().product::<usize>();
        let numbers = (0..count).map(|_| middle + spread * self.next()).collect::<Vec<_>>();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    }
}
