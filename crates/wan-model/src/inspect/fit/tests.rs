//! Sparse files of a tiny text encoder, right and wrong.

use candle_core::Device;

use super::*;
use crate::inspect::tests::{Shapes, write_sparse};
use crate::umt5::{Umt5Config, Umt5Encoder};

/// Tensors of a tiny text encoder.
fn text_encoder() -> (Network, Shapes) {
    let network = Network::TextEncoder(Umt5Config {
        vocab_size: 11,
        d_model: 6,
        d_kv: 4,
        d_ff: 8,
        num_layers: 1,
        num_heads: 3,
        ..Umt5Config::xxl()
    });
    let shapes = network.tensors();
    (network, shapes)
}

#[test]
fn weights_of_a_known_network_open_and_what_is_handed_out_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (network, mut shapes) = text_encoder();
    let numbers: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    // Harmless: the embedding's second name, ComfyUI's tokenizer, the ranges of 8-bit products.
    shapes.insert("encoder.embed_tokens.weight".into(), vec![11, 6]);
    shapes.insert("spiece_model".into(), vec![5]);
    shapes.insert("encoder.block.0.layer.0.SelfAttention.q.scale_input".into(), vec![1]);
    write_sparse(&path, &shapes);
    let weights = Arc::new(Weights::open(&[path]).unwrap());
    let opened = open(&network, &weights, &Device::Cpu).unwrap();
    assert_eq!(opened.handed_out(), 0);
    let Network::TextEncoder(config) = network else { panic!("a text encoder") };
    Umt5Encoder::load(config, opened.clone()).unwrap();
    // Matrices are held as the file has them, in bf16; norms and tables in f32.
    let short = 3 * 6 + 32 * 3;
    assert_eq!(opened.handed_out(), (2 * (numbers - short) + 4 * short) as u64);
}

#[test]
fn weights_of_another_network_do_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (network, whole) = text_encoder();
    let refusal = |change: &dyn Fn(&mut Shapes)| {
        let mut shapes = whole.clone();
        change(&mut shapes);
        write_sparse(&path, &shapes);
        let weights = Arc::new(Weights::open(std::slice::from_ref(&path)).unwrap());
        let error = open(&network, &weights, &Device::Cpu).err().unwrap();
        assert!(matches!(error, crate::Error::Misfit { .. }), "{error}");
        error.to_string()
    };
    let norm = "encoder.final_layer_norm.weight";
    let missing = refusal(&|shapes| drop(shapes.remove(norm)));
    for fact in ["model.safetensors: not the weights of this text encoder", norm, "[6]"] {
        assert!(missing.contains(fact), "{missing}");
    }
    let renamed = refusal(&|shapes| {
        let shape = shapes.remove(norm).unwrap();
        shapes.insert("encoder.last_norm.weight".into(), shape);
    });
    for fact in [norm, "`encoder.last_norm.weight` of shape [6] is unexpected", "renamed?"] {
        assert!(renamed.contains(fact), "{renamed}");
    }
    let unexpected = refusal(&|shapes| {
        for number in 0..9 {
            shapes.insert(format!("decoder.block.{number}.weight"), vec![2]);
        }
        // Harmless in an image encoder, not here.
        shapes.insert("visual_projection.weight".into(), vec![2]);
    });
    for fact in ["`decoder.block.2.weight`", "and 7 more", "belong to another model"] {
        assert!(unexpected.contains(fact), "{unexpected}");
    }
    let misshaped = refusal(&|shapes| drop(shapes.insert(norm.into(), vec![7])));
    assert!(misshaped.contains("has shape [7], expected [6]"), "{misshaped}");
}
