//! The maps against their inverse. (The golden cases hold them against recorded names.)

use super::*;

/// The original name of a tensor: the inverse of [`Layout::rename`], but for the tensors of the
/// image encoder that are a part of another.
pub(crate) fn restore(layout: Layout, name: &str) -> String {
    let restored = match layout {
        Layout::Diffusers => None,
        Layout::Transformer => in_blocks_back(name, "blocks.", "blocks.", BLOCK)
            .or_else(|| replace_start_back(name, TRANSFORMER)),
        Layout::TextEncoder => in_blocks_back(name, "encoder.block.", "blocks.", TEXT_LAYER)
            .or_else(|| replace_start_back(name, TEXT_ENCODER)),
        Layout::ImageEncoder => {
            in_blocks_back(name, "vision_model.encoder.layers.", "visual.transformer.", IMAGE_LAYER)
                .or_else(|| replace_start_back(name, IMAGE_ENCODER))
        }
        Layout::LlamaTextEncoder => {
            in_blocks_back(name, "encoder.block.", "enc.blk.", LLAMA_TEXT_LAYER)
                .or_else(|| replace_start_back(name, LLAMA_TEXT_ENCODER))
        }
        Layout::Vae21 { .. } | Layout::Vae22 => restore_vae(layout, name),
    };
    restored.unwrap_or_else(|| name.to_owned())
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
            _ => ("upsamples", 3),
        };
        let (_, rest) = rest.split_once('.')?;
        let (block, rest) = numbered(rest)?;
        let (place, rest) = if let Some(rest) = rest.strip_prefix("resnets.") {
            let (place, rest) = numbered(rest)?;
            (place, residual(rest))
        } else if rest.contains("sampler") {
            (steps, rest.trim_start_matches(|c| c != '.')[1..].trim_start_matches("0.").to_owned())
        } else {
            (0, residual(rest)) // the encoder of Wan 2.1, flat here too
        };
        match layout {
            Layout::Vae22 => format!("{list}.{block}.{list}.{place}.{rest}"),
            _ if side == "encoder" => format!("{list}.{block}.{rest}"),
            _ => format!("{list}.{}.{rest}", 4 * block + place),
        }
    };
    Some(format!("{side}.{restored}"))
}

#[test]
fn names_by_hand() {
    let one = |layout: Layout, name: &str| layout.rename(name)[0].0.clone();
    let wan = Layout::Transformer;
    assert_eq!(one(wan, "blocks.12.cross_attn.norm_k.weight"), "blocks.12.attn2.norm_k.weight");
    assert_eq!(one(wan, "blocks.0.norm3.bias"), "blocks.0.norm2.bias");
    assert_eq!(one(wan, "vace_blocks.0.modulation"), "vace_blocks.0.modulation");
    let vae = Layout::Vae21 { level: 4 };
    let step = "decoder.upsamples.11.resample.1.weight";
    assert_eq!(one(vae, step), "decoder.up_blocks.2.upsamplers.0.resample.1.weight");
    let last = "decoder.upsamples.14.residual.6.bias";
    assert_eq!(one(vae, last), "decoder.up_blocks.3.resnets.2.conv2.bias");
    let nested = "encoder.downsamples.1.downsamples.2.time_conv.bias";
    assert_eq!(one(Layout::Vae22, nested), "encoder.down_blocks.1.downsampler.time_conv.bias");
}

#[test]
fn the_length_of_a_level_is_read_from_its_names() {
    let names = ["decoder.upsamples.2.resample.1.weight", "decoder.upsamples.5.resample.1.weight"];
    assert_eq!(Layout::of(names), Layout::Vae21 { level: 3 });
    assert_eq!(Layout::of(["decoder.middle.0.residual.0.gamma"]), Layout::Vae21 { level: 4 });
    assert_eq!(Layout::of(["blocks.0.attn1.to_q.weight"]), Layout::Diffusers);
}

#[test]
fn parts_have_shapes_of_their_own() {
    assert_eq!(Part::Third(2).shape(&[9, 4]), [3, 4]);
    assert_eq!(Part::Squeezed.shape(&[1, 1, 7]), [7]);
    assert_eq!(Part::Squeezed.shape(&[1, 5, 7]), [5, 7]);
    assert_eq!(Part::Whole.shape(&[1, 5]), [1, 5]);
}
