//! The tensors of a file that is to be written: names, shapes, formats, and what they are made of.

use wan_weight_files::{Encoding, TensorInfo};

use super::numbers::WrittenNumbers;
use crate::inspect::Network;
use crate::original_names::Layout;
use crate::weights::Weights;

/// Tensors of no more elements stay in f32.
const SMALL: usize = 1024;

/// Parts of a transformer's names, in diffusers' spelling, whose matrices stay in 16 bits where
/// others become narrow: ComfyUI-GGUF's `lcpp.patch`.
const WIDE: [&str; 4] = ["condition_embedder.", "fps_", "patch_embedding.", "proj_out."];

/// Tensors of an image encoder that no network here reads, and transformers' class does: they are
/// written where they are there.
const OF_OTHERS: [&str; 2] =
    ["vision_model.post_layernorm.weight", "vision_model.post_layernorm.bias"];

/// A tensor that is to be written.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    /// The loaders' names and shapes of the tensors that follow each other in it.
    pub(super) sources: Vec<(String, Vec<usize>)>,
}

impl Output {
    pub(super) fn info(&self) -> TensorInfo {
        let (name, shape) = (self.name.clone(), self.shape.clone());
        TensorInfo { name, shape, encoding: self.encoding }
    }

    /// Whether it is written with a factor.
    pub(super) fn is_scaled(&self) -> bool {
        self.encoding == Encoding::F8E4M3
    }
}

/// All tensors of `network`, as `layout` names them and `numbers` says. Those of more bytes a number
/// come first, so that each is aligned to its own.
pub(super) fn outputs(
    network: &Network,
    weights: &Weights,
    layout: Layout,
    numbers: WrittenNumbers,
) -> Vec<Output> {
    let mut outputs = Vec::new();
    let of_others = OF_OTHERS.iter().filter(|_| matches!(network, Network::ImageEncoder(_)));
    let of_others =
        of_others.filter_map(|name| Some(((*name).into(), weights.shape(name)?.into())));
    for (name, shape) in network.tensors_in(weights).into_iter().chain(of_others) {
        let encoding = encoding(network, &name, &shape, (numbers, weights.encoding(&name)));
        outputs.extend(output(layout, name, shape, encoding));
    }
    outputs.sort_by(|a, b| {
        let bits = |output: &Output| output.encoding.block_bits() / output.encoding.block();
        bits(b).cmp(&bits(a)).then_with(|| a.name.cmp(&b.name))
    });
    outputs
}

/// The image encoder was published with queries, keys and values in one tensor.
fn output(layout: Layout, name: String, shape: Vec<usize>, encoding: Encoding) -> Option<Output> {
    let mut written = shape.clone();
    let restored = layout.restore(&name);
    if layout == Layout::ImageEncoder {
        let fused = |letter: &str| name.contains(&format!(".self_attn.{letter}_proj."));
        if fused("k") || fused("v") {
            return None;
        }
        if fused("q") {
            let part = |letter: &str| name.replace(".q_proj.", &format!(".{letter}_proj."));
            let sources = ["q", "k", "v"].map(|letter| (part(letter), shape.clone())).to_vec();
            written[0] *= 3;
            let name = name.replacen("vision_model.encoder.layers.", "visual.transformer.", 1);
            let name = name.replace("self_attn.q_proj.", "attn.to_qkv.");
            return Some(Output { name, shape: written, encoding, sources });
        }
        match restored.as_str() {
            "visual.cls_embedding" => written = [&[1, 1], shape.as_slice()].concat(),
            "visual.pos_embedding" => written = [&[1], shape.as_slice()].concat(),
            _ => {}
        }
    }
    Some(Output { name: restored, shape: written, encoding, sources: vec![(name, shape)] })
}

fn encoding(
    network: &Network,
    name: &str,
    shape: &[usize],
    (numbers, own): (WrittenNumbers, Option<Encoding>),
) -> Encoding {
    let elements: usize = shape.iter().product();
    let is_matrix = shape.len() == 2 && name.ends_with(".weight") && elements > SMALL;
    let stays_wide = matches!(network, Network::Transformer(_))
        && WIDE.iter().any(|start| name.starts_with(start));
    let narrow = is_matrix && !stays_wide && !name.contains("relative_attention_bias");
    match numbers {
        WrittenNumbers::Own => match own {
            Some(own @ (Encoding::F32 | Encoding::F16 | Encoding::BF16)) => own,
            Some(Encoding::F64) => Encoding::F32,
            _ => Encoding::BF16,
        },
        WrittenNumbers::Float(format) => format,
        WrittenNumbers::F8 if narrow => Encoding::F8E4M3,
        WrittenNumbers::F8 => Encoding::BF16,
        WrittenNumbers::Blocks(format) if narrow => in_blocks(format, shape[1]),
        WrittenNumbers::Blocks(_) if is_matrix => Encoding::BF16,
        WrittenNumbers::Blocks(_) => Encoding::F32,
    }
}

/// A format whose blocks divide rows of this length: the one that is wanted, Q8_0, or f16.
fn in_blocks(format: Encoding, row: usize) -> Encoding {
    let candidates = [format, Encoding::Q8_0];
    let fits = candidates.into_iter().find(|format| row.is_multiple_of(format.block()));
    fits.unwrap_or(Encoding::F16)
}

#[cfg(test)]
mod tests {
    use wan_weight_files::SafetensorsWriter;

    use super::*;
    use crate::clip::ClipVisionConfig;
    use crate::inspect::known;

    /// The weights of an image encoder, and others beside them.
    fn image_encoder(network: &Network, beside: &[&str]) -> Weights {
        let beside = beside.iter().map(|name| ((*name).to_owned(), vec![8]));
        let info = |(name, shape)| TensorInfo { name, shape, encoding: Encoding::F32 };
        let infos: Vec<_> = network.tensors().into_iter().chain(beside).map(info).collect();
        let mut writer = SafetensorsWriter::new(Vec::new(), &infos, &Default::default()).unwrap();
        for info in &infos {
            writer.put(&vec![0; usize::try_from(info.bytes()).unwrap()]).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        Weights::open(&[path]).unwrap()
    }

    #[test]
    fn the_last_norm_of_an_image_encoder_is_written_where_it_is_there() {
        let network = Network::ImageEncoder(ClipVisionConfig {
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            image_size: 4,
            patch_size: 2,
            ..ClipVisionConfig::vit_h_14()
        });
        let named = |beside: &[&str], layout| {
            let weights = image_encoder(&network, beside);
            let outputs = outputs(&network, &weights, layout, WrittenNumbers::Own);
            let all = outputs.len();
            let posts = outputs.into_iter().map(|output| output.name);
            (all, posts.filter(|name| name.contains("post")).collect::<Vec<_>>())
        };
        let all = network.tensors().len();
        assert_eq!(named(&["logit_scale"], Layout::Diffusers), (all, Vec::new()));
        let [weight, bias] = OF_OTHERS;
        let (found, names) = named(&[bias, weight, "logit_scale"], Layout::Diffusers);
        assert_eq!((found, names), (all + 2, vec![bias.to_owned(), weight.to_owned()]));
        let (_, names) = named(&[bias, weight], Layout::ImageEncoder);
        assert_eq!(names, ["visual.post_norm.bias", "visual.post_norm.weight"]);
    }

    #[test]
    fn every_tensor_is_read_back_under_the_name_that_it_is_written_by() {
        for known in known() {
            let layout = known.network.original_layout();
            let tensors = known.network.tensors();
            let written: Vec<Output> = tensors
                .iter()
                .filter_map(|(name, shape)| {
                    output(layout, name.clone(), shape.clone(), Encoding::F32)
                })
                .collect();
            let names = written.iter().map(|output| output.name.as_str());
            assert_eq!(Layout::of(names), layout, "{}", known.id);
            let read = written.iter().flat_map(|output| {
                layout.rename(&output.name).into_iter().zip(&output.sources).map(
                    |((name, part), (source, shape))| {
                        assert_eq!((&name, &part.shape(&output.shape)), (source, shape));
                        name
                    },
                )
            });
            let read: Vec<String> = read.collect();
            assert_eq!(read.len(), tensors.len(), "{}", known.id);
            assert!(read.iter().all(|name| tensors.contains_key(name)), "{}", known.id);
        }
    }
}
