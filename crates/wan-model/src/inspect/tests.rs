//! Sparse files of real size, and the lists against the loaders.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::clip::{ClipVision, ClipVisionConfig};
use crate::config::WanConfig;
use crate::model::WanModel;
use crate::original_names::Layout;
use crate::testing::transformer;
use crate::umt5::{Umt5Config, Umt5Encoder};
use crate::vae::{Vae, VaeConfig};
use crate::weights::{Scope, Source, Weight, Weights};

pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// A file whose header describes bf16 tensors that were never written; gives the header's length.
pub(super) fn write_sparse(path: &Path, shapes: &Shapes) -> u64 {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry =
            serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    header.len() as u64
}

/// Bytes that this thread has read from files so far, where the system counts them.
fn bytes_read() -> u64 {
    if std::env::consts::OS != "linux" {
        return 0;
    }
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    read.parse().unwrap()
}

fn shapes(network: &Network) -> Shapes {
    network.tensors()
}

/// The same tensors under their original names.
fn original_shapes(network: &Network) -> Shapes {
    let mut originals = Shapes::new();
    for (name, mut shape) in shapes(network) {
        let mut original = network.original_layout().restore(&name);
        if let Some((layer, kind)) = name.split_once(".self_attn.q_proj.") {
            let number = layer.rsplit('.').next().unwrap();
            original = format!("visual.transformer.{number}.attn.to_qkv.{kind}");
            shape[0] *= 3;
        } else if original.contains("self_attn.k_proj.") || original.contains("self_attn.v_proj.") {
            continue;
        } else if original == "visual.cls_embedding" {
            shape = vec![1, 1, shape[0]];
        } else if original == "visual.pos_embedding" {
            shape.insert(0, 1);
        }
        originals.insert(original, shape);
    }
    originals
}

fn inspect_shapes(shapes: &Shapes) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let header = write_sparse(&path, shapes);
    let before = bytes_read();
    let inspection = Inspection::of(&Weights::open(&[path]).unwrap());
    // The header once, and what counting takes: no tensor is read.
    let read = bytes_read() - before;
    assert!(read < header + 1000, "{read} bytes read, {header} of them the header");
    inspection
}

#[test]
fn files_of_real_size_are_recognised_in_both_layouts() {
    for known in known() {
        let (network, id) = (&known.network, known.id);
        let layouts = [
            (Layout::Diffusers, shapes(network)),
            (network.original_layout(), original_shapes(network)),
        ];
        for (layout, shapes) in layouts {
            let found = inspect_shapes(&shapes);
            assert_eq!(found.layout, layout, "{id}");
            assert_eq!(found.network.as_ref(), Some(network), "{id} {layout:?}");
            assert!(found.candidates.contains(&known), "{id}: {:?}", found.candidates);
            assert_eq!(found.problems, [], "{id} {layout:?}");
            let size = found.size();
            assert_eq!((found.dtypes["BF16"], size.bytes), (size, 2 * size.parameters as u64));
        }
    }
}

#[test]
fn published_sizes_in_parameters() {
    let count = |id: &str| {
        let known = known().into_iter().find(|known| known.id == id).unwrap();
        shapes(&known.network).values().map(|shape| shape.iter().product::<usize>()).sum::<usize>()
    };
    // Millions, as published: 1.42, 14.3, 16.4 and 5.0 billion; 127 million in the 2.1 VAE.
    let millions = ["t2v-1.3B", "t2v-14B", "i2v-14B", "ti2v-5B", "vae-2.1", "umt5-xxl"]
        .map(|id| count(id) / 1_000_000);
    assert_eq!(millions, [1418, 14288, 16394, 4999, 126, 5680]);
}

#[test]
fn networks_that_cannot_be_told_apart_are_all_named() {
    let named = |config: WanConfig| {
        let found = inspect_shapes(&shapes(&Network::Transformer(config)));
        found.candidates.iter().map(|known| known.id).collect::<Vec<_>>()
    };
    assert_eq!(named(transformer("t2v-14B")), ["t2v-14B", "t2v-A14B", "df-14B"]);
    assert_eq!(named(transformer("df-1.3B")), ["df-1.3B"]);
    assert_eq!(named(transformer("flf2v-14B")), ["flf2v-14B"]);
    assert_eq!(named(transformer("i2v-A14B")), ["i2v-A14B"]);
}

#[test]
fn a_file_with_half_of_the_tensors_is_still_recognised() {
    let all = shapes(&Network::Transformer(transformer("t2v-1.3B")));
    let candidates = |count: usize| {
        let some: Shapes = all.iter().take(count).map(|(n, s)| (n.clone(), s.clone())).collect();
        inspect_shapes(&some).candidates.into_iter().map(|known| known.id).collect::<Vec<_>>()
    };
    assert_eq!(candidates(all.len().div_ceil(2)), ["t2v-1.3B"]);
    assert_eq!(candidates((all.len() - 1) / 2), Vec::<&str>::new());
}

#[test]
fn one_wrong_tensor_is_named_with_what_was_expected() {
    let network = Network::Transformer(transformer("t2v-1.3B"));
    for (shapes, name) in [
        (shapes(&network), "blocks.3.attn1.to_q.weight"),
        (original_shapes(&network), "blocks.3.self_attn.q.weight"),
    ] {
        let (ours, whole) = ("blocks.3.attn1.to_q.weight".to_owned(), vec![1536, 1536]);
        let problems = |change: &dyn Fn(&mut Shapes)| {
            let mut changed = shapes.clone();
            change(&mut changed);
            let found = inspect_shapes(&changed);
            assert_eq!(found.candidates[0].id, "t2v-1.3B");
            found.problems
        };
        let missing = Problem::Missing { name: ours.clone(), expected: whole.clone() };
        let gone = problems(&|shapes| drop(shapes.remove(name)));
        assert_eq!(gone, std::slice::from_ref(&missing));
        let renamed = problems(&|shapes| {
            let shape = shapes.remove(name).unwrap();
            shapes.insert("blocks.3.oops".to_owned(), shape);
        });
        let oops = Problem::Unexpected { name: "blocks.3.oops".to_owned(), found: whole.clone() };
        assert_eq!(renamed, [missing, oops]);
        let misshaped = problems(&|shapes| drop(shapes.insert(name.to_owned(), vec![1536, 12])));
        let message = misshaped[0].to_string();
        assert_eq!(misshaped.len(), 1);
        for fact in [ours.as_str(), "[1536, 12]", "[1536, 1536]"] {
            assert!(message.contains(fact), "{message}");
        }
    }
}

#[test]
fn other_sizes_are_read_from_the_shapes() {
    let transformer = WanConfig {
        in_channels: 20,
        ffn_dim: 96,
        text_dim: 24,
        freq_dim: 8,
        num_layers: 3,
        cross_attn_norm: false,
        pos_embed_seq_len: Some(6),
        image_dim: Some(10),
        added_kv_proj_dim: Some(256),
        num_attention_heads: 2,
        ..transformer("df-1.3B")
    };
    let text =
        Umt5Config { vocab_size: 50, d_model: 8, d_kv: 4, num_layers: 2, ..Umt5Config::xxl() };
    let image = ClipVisionConfig {
        hidden_size: 128,
        num_attention_heads: 2,
        num_hidden_layers: 2,
        image_size: 42,
        ..ClipVisionConfig::vit_h_14()
    };
    for network in [
        Network::Transformer(transformer),
        Network::TextEncoder(text),
        Network::ImageEncoder(image),
    ] {
        let found = inspect_shapes(&shapes(&network));
        assert_eq!((found.network, found.problems), (Some(network), vec![]));
        assert_eq!(found.candidates, []);
    }
    let vae = VaeConfig { base_dim: 6, decoder_base_dim: Some(8), ..VaeConfig::wan_2_2() };
    let found = inspect_shapes(&shapes(&Network::Vae(vae)));
    assert!(matches!(found.network, Some(Network::Vae(vae)) if vae.base_dim == 6));
    assert_eq!(found.problems, []);
    let stranger = inspect_shapes(&Shapes::from([("lora.weight".to_owned(), vec![2])]));
    assert_eq!((stranger.network, stranger.problems), (None, vec![]));
}

/// Notes what is asked for; gives zeros.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Shapes>>);

impl Source for Asked {
    fn get(&self, name: &str, shape: &[usize]) -> crate::Result<Weight> {
        self.0.lock().unwrap().insert(name.to_owned(), shape.to_vec());
        Ok(Weight::Dense(Tensor::zeros(shape, DType::F32, &Device::Cpu)?))
    }

    fn has(&self, _: &str) -> bool {
        false
    }
}

#[test]
fn the_lists_are_what_the_loaders_ask_for() {
    let small = |config: WanConfig| WanConfig {
        num_attention_heads: 1,
        attention_head_dim: 12,
        ffn_dim: 5,
        text_dim: 7,
        freq_dim: 4,
        num_layers: 2,
        added_kv_proj_dim: config.image_dim.map(|_| 12),
        image_dim: config.image_dim.map(|_| 9),
        ..config
    };
    let plain = WanConfig { cross_attn_norm: false, ..transformer("df-1.3B") };
    let coder = |config: VaeConfig| VaeConfig { base_dim: 2, ..config };
    let mut networks: Vec<_> = [transformer("flf2v-14B"), transformer("ti2v-5B"), plain]
        .map(|config| Network::Transformer(small(config)))
        .into();
    networks.push(Network::Vae(coder(VaeConfig::wan_2_1())));
    let wider = VaeConfig { decoder_base_dim: Some(4), ..coder(VaeConfig::wan_2_2()) };
    networks.push(Network::Vae(wider));
    networks.push(Network::TextEncoder(Umt5Config {
        vocab_size: 11,
        d_model: 6,
        d_kv: 4,
        d_ff: 8,
        num_layers: 2,
        num_heads: 3,
        ..Umt5Config::xxl()
    }));
    networks.push(Network::ImageEncoder(ClipVisionConfig {
        hidden_size: 8,
        intermediate_size: 6,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: 42,
        ..ClipVisionConfig::vit_h_14()
    }));
    for network in networks {
        let asked = Asked::default();
        let scope = Scope::new(asked.clone(), DType::F32, &Device::Cpu);
        match network.clone() {
            Network::Transformer(config) => drop(WanModel::load(config, scope).unwrap()),
            Network::Vae(config) => drop(Vae::load(config, scope).unwrap()),
            Network::TextEncoder(config) => drop(Umt5Encoder::load(config, scope).unwrap()),
            Network::ImageEncoder(config) => drop(ClipVision::load(config, scope).unwrap()),
        }
        assert_eq!(*asked.0.lock().unwrap(), shapes(&network), "{network:?}");
    }
}
