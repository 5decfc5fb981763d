//! Which tensors of a transformer the modules of a LoRA mean, under all names in circulation.

use std::collections::HashMap;

use crate::inspect::Network;
use crate::original_names::Layout;

/// The tensors of a transformer by the names of their modules: diffusers' and Wan's, with dots and
/// with underscores in their place.
pub(super) struct Targets {
    /// `blocks.0.attn1.to_q`, `blocks_0_self_attn_q`, ... to diffusers' name with dots.
    modules: HashMap<String, String>,
    /// Tensors that are no `weight` or `bias` of a module, as `blocks.0.modulation`.
    tables: HashMap<String, String>,
    shapes: HashMap<String, Vec<usize>>,
    blocks: usize,
    takes_images: bool,
}

/// Parts of names of the layers for image tokens, in all layouts.
const IMAGE_LAYERS: [&str; 8] = [
    "k_img",
    "v_img",
    "add_k_proj",
    "add_v_proj",
    "norm_added_k",
    "img_emb",
    "image_embedder",
    "img_mod",
];

impl Targets {
    /// Those of a network.
    pub(super) fn of(network: &Network) -> Self {
        let shapes: HashMap<_, _> = network.tensors().into_iter().collect();
        let (mut modules, mut tables) = (HashMap::new(), HashMap::new());
        for name in shapes.keys() {
            let original = Layout::Transformer.restore(name);
            for (known, target) in [(name, name), (&original, name)] {
                let (names, known, target) = match (module_of(known), module_of(target)) {
                    (Some(known), Some(target)) => (&mut modules, known, target),
                    _ => (&mut tables, known.as_str(), target.as_str()),
                };
                names.insert(known.replace('.', "_"), target.to_owned());
                names.insert(known.to_owned(), target.to_owned());
            }
        }
        let (blocks, takes_images) = match network {
            Network::Transformer(config) => (config.num_layers, config.takes_image_tokens()),
            _ => (0, true),
        };
        Self { modules, tables, shapes, blocks, takes_images }
    }

    /// Diffusers' name of a module.
    pub(super) fn module(&self, name: &str) -> Option<&str> {
        let found = self.modules.get(name);
        // Old diffusers files lack the number of the output's layer.
        found.or_else(|| self.modules.get(&format!("{name}.0"))).map(String::as_str)
    }

    /// Diffusers' name of a tensor that is no weight or bias.
    pub(super) fn table(&self, name: &str) -> Option<&str> {
        self.tables.get(name).map(String::as_str)
    }

    pub(super) fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.shapes.get(tensor).map(Vec::as_slice)
    }

    /// Whether a module that the transformer does not have is one of image layers, and the
    /// transformer takes no images.
    pub(super) fn is_image_layer(&self, name: &str) -> bool {
        !self.takes_images && IMAGE_LAYERS.iter().any(|part| name.contains(part))
    }

    /// The number of the block that a module is in, if the transformer has no such block.
    pub(super) fn is_deeper(&self, name: &str) -> Option<usize> {
        let rest = name.strip_prefix("blocks")?;
        let number = rest.trim_start_matches(['.', '_']).split(['.', '_']).next()?;
        number.parse().ok().filter(|number| *number >= self.blocks)
    }
}

fn module_of(tensor: &str) -> Option<&str> {
    tensor.strip_suffix(".weight").or_else(|| tensor.strip_suffix(".bias"))
}
