//! Name and shape of the tensors that each network's loader needs.

use std::collections::BTreeMap;

use crate::clip::ClipVisionConfig;
use crate::config::WanConfig;
use crate::umt5::Umt5Config;
use crate::vae::VaeConfig;

/// Names and shapes.
#[derive(Default)]
pub(super) struct Expected(pub(super) BTreeMap<String, Vec<usize>>);

impl Expected {
    fn tensor(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.insert(name.into(), shape.to_vec());
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.biased(name, &[outputs, inputs]);
    }

    /// A weight, and a bias for each of its rows.
    fn biased(&mut self, name: &str, weight: &[usize]) {
        self.tensor(format!("{name}.weight"), weight);
        self.tensor(format!("{name}.bias"), &weight[..1]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.biased(name, &[width]);
    }
}

pub(super) fn transformer(config: &WanConfig) -> Expected {
    let (mut all, dim) = (Expected::default(), config.dim());
    let [pt, ph, pw] = config.patch_size;
    all.biased("patch_embedding", &[dim, config.in_channels, pt, ph, pw]);
    all.linear("condition_embedder.time_embedder.linear_1", config.freq_dim, dim);
    all.linear("condition_embedder.time_embedder.linear_2", dim, dim);
    all.linear("condition_embedder.time_proj", dim, 6 * dim);
    all.linear("condition_embedder.text_embedder.linear_1", config.text_dim, dim);
    all.linear("condition_embedder.text_embedder.linear_2", dim, dim);
    if let Some(width) = config.image_dim {
        let image = "condition_embedder.image_embedder";
        all.norm(&format!("{image}.norm1"), width);
        all.linear(&format!("{image}.ff.net.0.proj"), width, width);
        all.linear(&format!("{image}.ff.net.2"), width, dim);
        all.norm(&format!("{image}.norm2"), dim);
        if let Some(tokens) = config.pos_embed_seq_len {
            all.tensor(format!("{image}.pos_embed"), &[1, tokens, width]);
        }
    }
    if config.inject_sample_info {
        all.tensor("fps_embedding.weight", &[2, dim]);
        all.linear("fps_projection.net.0.proj", dim, dim);
        all.linear("fps_projection.net.2", dim, 6 * dim);
    }
    for number in 0..config.num_layers {
        block(&mut all, config, &format!("blocks.{number}"));
    }
    all.tensor("scale_shift_table", &[1, 2, dim]);
    all.linear("proj_out", dim, pt * ph * pw * config.out_channels);
    all
}

fn block(all: &mut Expected, config: &WanConfig, block: &str) {
    let dim = config.dim();
    all.tensor(format!("{block}.scale_shift_table"), &[1, 6, dim]);
    for attention in ["attn1", "attn2"] {
        for projection in ["to_q", "to_k", "to_v", "to_out.0"] {
            all.linear(&format!("{block}.{attention}.{projection}"), dim, dim);
        }
        for norm in ["norm_q", "norm_k"] {
            all.tensor(format!("{block}.{attention}.{norm}.weight"), &[dim]);
        }
    }
    if let Some(width) = config.added_kv_proj_dim {
        all.linear(&format!("{block}.attn2.add_k_proj"), width, dim);
        all.linear(&format!("{block}.attn2.add_v_proj"), width, dim);
        all.tensor(format!("{block}.attn2.norm_added_k.weight"), &[dim]);
    }
    if config.cross_attn_norm {
        all.norm(&format!("{block}.norm2"), dim);
    }
    all.linear(&format!("{block}.ffn.net.0.proj"), dim, config.ffn_dim);
    all.linear(&format!("{block}.ffn.net.2"), config.ffn_dim, dim);
}

pub(super) fn vae(config: &VaeConfig) -> Expected {
    let (mut all, z) = (Expected::default(), config.z_dim);
    let cube = |outputs, inputs| [outputs, inputs, 3, 3, 3];
    all.biased("quant_conv", &[2 * z, 2 * z, 1, 1, 1]);
    all.biased("post_quant_conv", &[z, z, 1, 1, 1]);

    let dims: Vec<_> = config.dim_mult.iter().map(|mult| mult * config.base_dim).collect();
    let deepest = dims.last().copied().unwrap_or(config.base_dim);
    all.biased("encoder.conv_in", &cube(config.base_dim, config.in_channels));
    encoder_levels(&mut all, config, &dims);
    middle(&mut all, "encoder", deepest);
    all.tensor("encoder.norm_out.gamma", &[deepest, 1, 1, 1]);
    all.biased("encoder.conv_out", &cube(2 * z, deepest));

    let base = config.decoder_base_dim.unwrap_or(config.base_dim);
    let dims: Vec<_> = config.dim_mult.iter().rev().map(|mult| mult * base).collect();
    let deepest = dims.first().copied().unwrap_or(base);
    all.biased("decoder.conv_in", &cube(deepest, z));
    middle(&mut all, "decoder", deepest);
    let channels = decoder_levels(&mut all, config, &dims);
    all.tensor("decoder.norm_out.gamma", &[channels, 1, 1, 1]);
    all.biased("decoder.conv_out", &cube(config.out_channels, channels));
    all
}

fn encoder_levels(all: &mut Expected, config: &VaeConfig, dims: &[usize]) {
    let (mut channels, mut flat) = (config.base_dim, 0);
    for (level, dim) in dims.iter().enumerate() {
        let mut next = |nested: String| {
            flat += 1;
            let own = if config.is_residual {
                format!("{level}.{nested}")
            } else {
                (flat - 1).to_string()
            };
            format!("encoder.down_blocks.{own}")
        };
        for number in 0..config.num_res_blocks {
            residual(all, &next(format!("resnets.{number}")), channels, *dim);
            channels = *dim;
        }
        if let Some(time) = config.temperal_downsample.get(level) {
            let step = next("downsampler".to_owned());
            all.biased(&format!("{step}.resample.1"), &[*dim, *dim, 3, 3]);
            if *time {
                all.biased(&format!("{step}.time_conv"), &[*dim, *dim, 3, 1, 1]);
            }
        }
    }
}

/// Returns the output channels of the last level.
fn decoder_levels(all: &mut Expected, config: &VaeConfig, dims: &[usize]) -> usize {
    let mut channels = dims.first().copied().unwrap_or(config.base_dim);
    for (level, dim) in dims.iter().enumerate() {
        let block = format!("decoder.up_blocks.{level}");
        for number in 0..=config.num_res_blocks {
            residual(all, &format!("{block}.resnets.{number}"), channels, *dim);
            channels = *dim;
        }
        let Some(time) = config.temperal_downsample.iter().rev().nth(level) else { continue };
        let (step, outputs) =
            if config.is_residual { ("upsampler", *dim) } else { ("upsamplers.0", dim / 2) };
        all.biased(&format!("{block}.{step}.resample.1"), &[outputs, *dim, 3, 3]);
        if *time {
            all.biased(&format!("{block}.{step}.time_conv"), &[2 * dim, *dim, 3, 1, 1]);
        }
        channels = outputs;
    }
    channels
}

fn middle(all: &mut Expected, side: &str, channels: usize) {
    for number in [0, 1] {
        residual(all, &format!("{side}.mid_block.resnets.{number}"), channels, channels);
    }
    let attention = format!("{side}.mid_block.attentions.0");
    all.tensor(format!("{attention}.norm.gamma"), &[channels, 1, 1]);
    all.biased(&format!("{attention}.to_qkv"), &[3 * channels, channels, 1, 1]);
    all.biased(&format!("{attention}.proj"), &[channels, channels, 1, 1]);
}

fn residual(all: &mut Expected, name: &str, inputs: usize, outputs: usize) {
    all.tensor(format!("{name}.norm1.gamma"), &[inputs, 1, 1, 1]);
    all.biased(&format!("{name}.conv1"), &[outputs, inputs, 3, 3, 3]);
    all.tensor(format!("{name}.norm2.gamma"), &[outputs, 1, 1, 1]);
    all.biased(&format!("{name}.conv2"), &[outputs, outputs, 3, 3, 3]);
    if inputs != outputs {
        all.biased(&format!("{name}.conv_shortcut"), &[outputs, inputs, 1, 1, 1]);
    }
}

/// `table` is the name of the embedding in the file: transformers writes it under either name.
pub(super) fn text_encoder(config: &Umt5Config, table: &str) -> Expected {
    let (mut all, width) = (Expected::default(), config.d_model);
    let inner = config.num_heads * config.d_kv;
    all.tensor(table, &[config.vocab_size, width]);
    for number in 0..config.num_layers {
        let layer = format!("encoder.block.{number}.layer");
        let own = format!("{layer}.0.SelfAttention");
        for projection in ["q", "k", "v"] {
            all.tensor(format!("{own}.{projection}.weight"), &[inner, width]);
        }
        all.tensor(format!("{own}.o.weight"), &[width, inner]);
        let buckets = [config.relative_attention_num_buckets, config.num_heads];
        all.tensor(format!("{own}.relative_attention_bias.weight"), &buckets);
        let dense = format!("{layer}.1.DenseReluDense");
        all.tensor(format!("{dense}.wi_0.weight"), &[config.d_ff, width]);
        all.tensor(format!("{dense}.wi_1.weight"), &[config.d_ff, width]);
        all.tensor(format!("{dense}.wo.weight"), &[width, config.d_ff]);
        for part in [0, 1] {
            all.tensor(format!("{layer}.{part}.layer_norm.weight"), &[width]);
        }
    }
    all.tensor("encoder.final_layer_norm.weight", &[width]);
    all
}

pub(super) fn image_encoder(config: &ClipVisionConfig) -> Expected {
    let (mut all, width, p) = (Expected::default(), config.hidden_size, config.patch_size);
    let embeddings = "vision_model.embeddings";
    all.tensor(format!("{embeddings}.class_embedding"), &[width]);
    let patches = [width, config.num_channels, p, p];
    all.tensor(format!("{embeddings}.patch_embedding.weight"), &patches);
    all.tensor(format!("{embeddings}.position_embedding.weight"), &[config.tokens(), width]);
    all.norm("vision_model.pre_layrnorm", width);
    for number in 0..config.num_hidden_layers {
        let layer = format!("vision_model.encoder.layers.{number}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            all.linear(&format!("{layer}.self_attn.{projection}"), width, width);
        }
        all.linear(&format!("{layer}.mlp.fc1"), width, config.intermediate_size);
        all.linear(&format!("{layer}.mlp.fc2"), config.intermediate_size, width);
        all.norm(&format!("{layer}.layer_norm1"), width);
        all.norm(&format!("{layer}.layer_norm2"), width);
    }
    all
}
