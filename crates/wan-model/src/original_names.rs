//! Translates the tensor names of the originally published files and of ComfyUI's files to the
//! names of diffusers and transformers, which the loaders use.
//!
//! No file is read here. A network has the same tensors in every layout, except for the image
//! encoder, which was published with queries, keys and values in one tensor. Text encoders in GGUF
//! files have llama.cpp's names. Sources: Wan2.1
//! 9737cba, Wan2.2 42bf4cf and SkyReels-V2 abed76f (`wan/modules`), diffusers 0.42.1
//! `loaders/single_file_utils.py`, ComfyUI-GGUF 795e451 `loader.py`. ComfyUI's files have the original names, the transformer's
//! perhaps behind `model.diffusion_model.`, and transformers' names for the encoders.

use std::collections::HashSet;

mod back;

/// The naming scheme of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Names of diffusers or transformers, or unknown names.
    Diffusers,
    /// Names of the original transformers of Wan and SkyReels-V2.
    Transformer,
    /// Names of the original Wan 2.1 VAE.
    Vae21 {
        /// Layers per level in the decoder's flat list, including the step up.
        level: usize,
    },
    /// Names of the original Wan 2.2 VAE.
    Vae22,
    /// Names of the original text encoder.
    TextEncoder,
    /// Names that llama.cpp gives to a text encoder, as in GGUF files.
    LlamaTextEncoder,
    /// Names of the original image encoder.
    ImageEncoder,
    /// Names that transformers gives to an image encoder alone from version 5 on: as before, without
    /// `vision_model.`.
    VisionModel,
}

/// The part of an original tensor that a renamed one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// All of it, without the axes of length 1 in front.
    Squeezed,
    /// One of three equal runs of rows: queries, keys, values.
    Third(usize),
}

impl Part {
    /// Shape of this part of a tensor of shape `whole`.
    pub fn shape(self, whole: &[usize]) -> Vec<usize> {
        match self {
            Self::Whole => whole.to_vec(),
            Self::Squeezed => whole.iter().copied().skip_while(|length| *length == 1).collect(),
            Self::Third(_) => {
                let mut shape = whole.to_vec();
                if let Some(rows) = shape.first_mut() {
                    *rows /= 3;
                }
                shape
            }
        }
    }
}

impl Layout {
    /// The layout of a file with these names, which have no prefix; that of diffusers if it is
    /// unknown.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::recognised(names).unwrap_or(Self::Diffusers)
    }

    /// The layout of a file with these names, if they are those of a network of Wan's.
    pub fn recognised<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let names: HashSet<&str> = names.into_iter().collect();
        let any = |start: &str| names.iter().any(|name| name.starts_with(start));
        let layout = if any("head.modulation") || any("blocks.0.self_attn.") {
            Self::Transformer
        } else if any("decoder.upsamples.0.upsamples.") || any("encoder.downsamples.0.downsamples.")
        {
            Self::Vae22
        } else if any("decoder.upsamples.") || any("decoder.middle.") {
            let steps = names.iter().filter_map(|name| {
                let step = name.strip_prefix("decoder.upsamples.")?;
                step.strip_suffix(".resample.1.weight")?.parse::<usize>().ok()
            });
            Self::Vae21 { level: steps.min().map_or(4, |step| step + 1) }
        } else if any("token_embedding.") || any("blocks.0.attn.") {
            Self::TextEncoder
        } else if any("visual.transformer.") || any("visual.cls_embedding") {
            Self::ImageEncoder
        } else if any("embeddings.class_embedding") {
            Self::VisionModel
        } else if any("enc.blk.") {
            Self::LlamaTextEncoder
        } else if DIFFUSERS.into_iter().any(any) {
            Self::Diffusers
        } else {
            return None;
        };
        Some(layout)
    }

    /// The tensors in the tensor `name`, under the loaders' names. An unknown name is returned
    /// unchanged.
    pub fn rename(self, name: &str) -> Vec<(String, Part)> {
        let renamed = match self {
            Self::Diffusers => None,
            Self::Transformer => in_blocks(name, "blocks.", "blocks.", BLOCK)
                .or_else(|| replace_start(name, TRANSFORMER)),
            Self::Vae21 { .. } | Self::Vae22 => vae(self, name),
            Self::TextEncoder => in_blocks(name, "blocks.", "encoder.block.", TEXT_LAYER)
                .or_else(|| replace_start(name, TEXT_ENCODER)),
            Self::LlamaTextEncoder => {
                in_blocks(name, "enc.blk.", "encoder.block.", LLAMA_TEXT_LAYER)
                    .or_else(|| replace_start(name, LLAMA_TEXT_ENCODER))
            }
            Self::ImageEncoder => return image_encoder(name),
            Self::VisionModel => {
                let is_own = VISION_MODEL.iter().any(|start| name.starts_with(start));
                is_own.then(|| format!("{VISION}{name}"))
            }
        };
        vec![(renamed.unwrap_or_else(|| name.to_owned()), Part::Whole)]
    }
}

/// What stands before the names of an image encoder.
const VISION: &str = "vision_model.";

/// Beginnings of names behind it.
const VISION_MODEL: [&str; 4] = ["embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm."];

type Table = &'static [(&'static str, &'static str)];

/// Beginnings of names by which the networks of diffusers and transformers are known.
const DIFFUSERS: [&str; 9] = [
    "blocks.0.attn1.",
    "condition_embedder.",
    "decoder.mid_block.",
    "decoder.up_blocks.",
    "encoder.block.0.layer.",
    "encoder.down_blocks.",
    "encoder.mid_block.",
    "vision_model.embeddings.",
    "vision_model.encoder.",
];

const TRANSFORMER: Table = &[
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("img_emb.proj.0.", "condition_embedder.image_embedder.norm1."),
    ("img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj."),
    ("img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2."),
    ("img_emb.proj.4.", "condition_embedder.image_embedder.norm2."),
    ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    ("fps_projection.0.", "fps_projection.net.0.proj."),
    ("fps_projection.2.", "fps_projection.net.2."),
    ("head.head.", "proj_out."),
    ("head.modulation", "scale_shift_table"),
];

/// The second and third norm are swapped; the first and the original second have no tensors.
const BLOCK: Table = &[
    ("modulation", "scale_shift_table"),
    ("norm3.", "norm2."),
    ("self_attn.q.", "attn1.to_q."),
    ("self_attn.k.", "attn1.to_k."),
    ("self_attn.v.", "attn1.to_v."),
    ("self_attn.o.", "attn1.to_out.0."),
    ("self_attn.", "attn1."),
    ("cross_attn.q.", "attn2.to_q."),
    ("cross_attn.k.", "attn2.to_k."),
    ("cross_attn.v.", "attn2.to_v."),
    ("cross_attn.o.", "attn2.to_out.0."),
    ("cross_attn.k_img.", "attn2.add_k_proj."),
    ("cross_attn.v_img.", "attn2.add_v_proj."),
    ("cross_attn.norm_k_img.", "attn2.norm_added_k."),
    ("cross_attn.", "attn2."),
    ("ffn.0.", "ffn.net.0.proj."),
    ("ffn.2.", "ffn.net.2."),
];

const VAE: Table = &[("conv1.", "quant_conv."), ("conv2.", "post_quant_conv.")];

const CODER: Table = &[("conv1.", "conv_in."), ("head.0.", "norm_out."), ("head.2.", "conv_out.")];

const RESIDUAL: Table = &[
    ("residual.0.", "norm1."),
    ("residual.2.", "conv1."),
    ("residual.3.", "norm2."),
    ("residual.6.", "conv2."),
    ("shortcut.", "conv_shortcut."),
];

const TEXT_ENCODER: Table =
    &[("token_embedding.", "shared."), ("norm.", "encoder.final_layer_norm.")];

const TEXT_LAYER: Table = &[
    ("pos_embedding.embedding.", "layer.0.SelfAttention.relative_attention_bias."),
    ("attn.", "layer.0.SelfAttention."),
    ("norm1.", "layer.0.layer_norm."),
    ("norm2.", "layer.1.layer_norm."),
    ("ffn.gate.0.", "layer.1.DenseReluDense.wi_0."),
    ("ffn.fc1.", "layer.1.DenseReluDense.wi_1."),
    ("ffn.fc2.", "layer.1.DenseReluDense.wo."),
];

const LLAMA_TEXT_ENCODER: Table =
    &[("token_embd.", "shared."), ("enc.output_norm.", "encoder.final_layer_norm.")];

const LLAMA_TEXT_LAYER: Table = &[
    ("attn_rel_b.", "layer.0.SelfAttention.relative_attention_bias."),
    ("attn_norm.", "layer.0.layer_norm."),
    ("attn_", "layer.0.SelfAttention."),
    ("ffn_norm.", "layer.1.layer_norm."),
    ("ffn_gate.", "layer.1.DenseReluDense.wi_0."),
    ("ffn_up.", "layer.1.DenseReluDense.wi_1."),
    ("ffn_down.", "layer.1.DenseReluDense.wo."),
];

const IMAGE_ENCODER: Table = &[
    ("visual.cls_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.pos_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.patch_embedding.", "vision_model.embeddings.patch_embedding."),
    ("visual.pre_norm.", "vision_model.pre_layrnorm."),
    ("visual.post_norm.", "vision_model.post_layernorm."),
];

const IMAGE_LAYER: Table = &[
    ("attn.proj.", "self_attn.out_proj."),
    ("norm1.", "layer_norm1."),
    ("norm2.", "layer_norm2."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.2.", "mlp.fc2."),
];

/// `name` with the first start in `table` that matches replaced.
fn replace_start(name: &str, table: Table) -> Option<String> {
    table.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

/// `{from}{number}.{rest}` to `{to}{number}.{rest by table}`.
fn in_blocks(name: &str, from: &str, to: &str, table: Table) -> Option<String> {
    let (number, rest) = numbered(name.strip_prefix(from)?)?;
    Some(format!("{to}{number}.{}", replace_start(rest, table)?))
}

/// Splits `{number}.{rest}`.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn vae(layout: Layout, name: &str) -> Option<String> {
    let (side, rest) = name.split_once('.')?;
    if side != "encoder" && side != "decoder" {
        return replace_start(name, VAE);
    }
    let renamed = replace_start(rest, CODER)
        .or_else(|| middle(rest.strip_prefix("middle.")?))
        .or_else(|| level(layout, rest))?;
    Some(format!("{side}.{renamed}"))
}

/// Residual, attention, residual.
fn middle(name: &str) -> Option<String> {
    match numbered(name)? {
        (1, rest) => Some(format!("mid_block.attentions.0.{rest}")),
        (number, rest) => Some(format!("mid_block.resnets.{}.{}", number / 2, residual(rest))),
    }
}

/// A layer of a level. Wan 2.1 has one flat list (diffusers nests the decoder's), Wan 2.2 nests
/// them.
fn level(layout: Layout, name: &str) -> Option<String> {
    let (list, rest) = name.split_once('.')?;
    let (blocks, step) = match list {
        "downsamples" => ("down_blocks", "downsampler"),
        "upsamples" => ("up_blocks", "upsampler"),
        _ => return None,
    };
    let (number, rest) = numbered(rest)?;
    let is_step = |rest: &str| rest.starts_with("resample.") || rest.starts_with("time_conv.");
    match (layout, list) {
        (Layout::Vae21 { .. }, "downsamples") => {
            Some(format!("{blocks}.{number}.{}", residual(rest)))
        }
        (Layout::Vae21 { level }, _) if is_step(rest) => {
            Some(format!("{blocks}.{}.upsamplers.0.{rest}", number / level))
        }
        (Layout::Vae21 { level }, _) => {
            let (block, place) = (number / level, number % level);
            Some(format!("{blocks}.{block}.resnets.{place}.{}", residual(rest)))
        }
        _ => {
            let (place, rest) = numbered(rest.strip_prefix(list)?.strip_prefix('.')?)?;
            if is_step(rest) {
                return Some(format!("{blocks}.{number}.{step}.{rest}"));
            }
            Some(format!("{blocks}.{number}.resnets.{place}.{}", residual(rest)))
        }
    }
}

fn residual(name: &str) -> String {
    replace_start(name, RESIDUAL).unwrap_or_else(|| name.to_owned())
}

fn image_encoder(name: &str) -> Vec<(String, Part)> {
    let layer = name.strip_prefix("visual.transformer.").and_then(numbered);
    if let Some((number, rest)) = layer {
        let layer = format!("vision_model.encoder.layers.{number}");
        if let Some(kind) = rest.strip_prefix("attn.to_qkv.") {
            let third = |(third, letter)| {
                (format!("{layer}.self_attn.{letter}_proj.{kind}"), Part::Third(third))
            };
            return ["q", "k", "v"].into_iter().enumerate().map(third).collect();
        }
        let renamed = replace_start(rest, IMAGE_LAYER).unwrap_or_else(|| rest.to_owned());
        return vec![(format!("{layer}.{renamed}"), Part::Whole)];
    }
    let renamed = replace_start(name, IMAGE_ENCODER).unwrap_or_else(|| name.to_owned());
    let part = match name {
        "visual.cls_embedding" | "visual.pos_embedding" => Part::Squeezed,
        _ => Part::Whole,
    };
    vec![(renamed, part)]
}

#[cfg(test)]
mod tests;
