//! From the loaders' names to the original ones.

use super::{
    BLOCK, CODER, IMAGE_ENCODER, IMAGE_LAYER, LLAMA_TEXT_ENCODER, LLAMA_TEXT_LAYER, Layout,
    RESIDUAL, TEXT_ENCODER, TEXT_LAYER, TRANSFORMER, Table, VAE, VISION, numbered,
};

impl Layout {
    /// The name in this layout of the tensor that the loaders call `name`: the inverse of
    /// [`rename`](Self::rename), but for the tensors of the image encoder that are a part of another.
    /// A name that is not known is returned unchanged.
    pub fn restore(self, name: &str) -> String {
        let restored = match self {
            Layout::Diffusers => None,
            Layout::Transformer => in_blocks_back(name, "blocks.", "blocks.", BLOCK)
                .or_else(|| replace_start_back(name, TRANSFORMER)),
            Layout::TextEncoder => in_blocks_back(name, "encoder.block.", "blocks.", TEXT_LAYER)
                .or_else(|| replace_start_back(name, TEXT_ENCODER)),
            Layout::ImageEncoder => in_blocks_back(
                name,
                "vision_model.encoder.layers.",
                "visual.transformer.",
                IMAGE_LAYER,
            )
            .or_else(|| replace_start_back(name, IMAGE_ENCODER)),
            Layout::VisionModel => name.strip_prefix(VISION).map(str::to_owned),
            Layout::LlamaTextEncoder => {
                in_blocks_back(name, "encoder.block.", "enc.blk.", LLAMA_TEXT_LAYER)
                    .or_else(|| replace_start_back(name, LLAMA_TEXT_ENCODER))
            }
            Layout::Vae21 { .. } | Layout::Vae22 => restore_vae(self, name),
        };
        restored.unwrap_or_else(|| name.to_owned())
    }
}

fn replace_start_back(name: &str, table: Table) -> Option<String> {
    table.iter().find_map(|(to, from)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

fn in_blocks_back(name: &str, from: &str, to: &str, table: Table) -> Option<String> {
    let (number, rest) = numbered(name.strip_prefix(from)?)?;
    Some(format!("{to}{number}.{}", replace_start_back(rest, table)?))
}

fn restore_vae(layout: Layout, name: &str) -> Option<String> {
    let (side, rest) = name.split_once('.')?;
    if side != "encoder" && side != "decoder" {
        return replace_start_back(name, VAE);
    }
    let residual =
        |rest: &str| replace_start_back(rest, RESIDUAL).unwrap_or_else(|| rest.to_owned());
    let restored = if let Some(restored) = replace_start_back(rest, CODER) {
        restored
    } else if let Some(rest) = rest.strip_prefix("mid_block.attentions.0.") {
        format!("middle.1.{rest}")
    } else if let Some(rest) = rest.strip_prefix("mid_block.resnets.") {
        let (number, rest) = numbered(rest)?;
        format!("middle.{}.{}", 2 * number, residual(rest))
    } else {
        let (list, steps) = match side {
            "encoder" => ("downsamples", 2),
            _ => ("upsamples", if let Layout::Vae21 { level } = layout { level - 1 } else { 3 }),
        };
        let (_, rest) = rest.split_once('.')?;
        let (block, rest) = numbered(rest)?;
        let (place, rest) = if let Some(rest) = rest.strip_prefix("resnets.") {
            let (place, rest) = numbered(rest)?;
            (place, residual(rest))
        } else if rest.contains("sampler") {
            (steps, rest.split_once('.')?.1.trim_start_matches("0.").to_owned())
        } else {
            (0, residual(rest)) // the encoder of Wan 2.1, flat here too
        };
        match layout {
            Layout::Vae22 => format!("{list}.{block}.{list}.{place}.{rest}"),
            _ if side == "encoder" => format!("{list}.{block}.{rest}"),
            Layout::Vae21 { level } => format!("{list}.{}.{rest}", level * block + place),
            _ => return None,
        }
    };
    Some(format!("{side}.{restored}"))
}
