//! Configs of no model are refused for their own reason, before a weight is read.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use wan_model::clip::{ClipVision, ClipVisionConfig};
use wan_model::inspect::{Network, known};
use wan_model::published::find;
use wan_model::umt5::{Umt5Config, Umt5Encoder};
use wan_model::vae::{Vae, VaeConfig};
use wan_model::weights::Scope;
use wan_model::{Error, Numerics, WanConfig, WanModel};

/// The transformer of the published model of this id.
fn transformer(id: &str) -> WanConfig {
    find(id).unwrap().transformer.clone()
}

/// Weights that hold nothing: what gets past the config stops at a missing tensor.
fn nothing() -> Scope {
    Scope::new(HashMap::new(), DType::F32, &Device::Cpu)
}

#[track_caller]
fn check_refused(error: Option<Error>, facts: &[&str]) {
    let error = error.expect("refused");
    let said = error.to_string();
    assert!(matches!(error, Error::Config(_)), "{facts:?}: {said}");
    assert!(facts.iter().all(|fact| said.contains(fact)), "{facts:?}: {said}");
}

#[track_caller]
fn check_passes(error: Option<Error>) {
    let error = error.expect("there are no weights");
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
}

#[test]
fn transformers() {
    let load = |config: WanConfig| WanModel::load(config, nothing()).err();
    let plain = || transformer("t2v-1.3B");
    for published in [
        plain(),
        transformer("t2v-14B"),
        transformer("df-1.3B"),
        transformer("i2v-1.3B"),
        transformer("i2v-14B"),
        transformer("flf2v-14B"),
        transformer("i2v-A14B"),
        transformer("ti2v-5B"),
    ] {
        check_passes(load(published));
    }
    // The smallest and the oddest that still are models.
    check_passes(load(WanConfig { attention_head_dim: 6, ..plain() }));
    check_passes(load(WanConfig { freq_dim: 2, ..plain() }));
    check_passes(load(WanConfig { patch_size: [1, 1, 1], ..plain() }));
    let one = WanConfig { num_attention_heads: 1, num_layers: 1, ..plain() };
    check_passes(load(one));

    for head in [0, 2, 4, 5, 7] {
        let config = WanConfig { attention_head_dim: head, ..plain() };
        check_refused(load(config), &["attention_head_dim", &head.to_string()]);
    }
    for freq_dim in [0, 7] {
        let config = WanConfig { freq_dim, ..plain() };
        check_refused(load(config), &["freq_dim", &freq_dim.to_string()]);
    }
    let starts = ["patch_size", "num_attention_heads", "num_layers", "start at 1"];
    for patch_size in [[0, 2, 2], [1, 0, 2], [1, 2, 0]] {
        check_refused(load(WanConfig { patch_size, ..plain() }), &starts);
    }
    check_refused(load(WanConfig { num_attention_heads: 0, ..plain() }), &starts);
    check_refused(load(WanConfig { num_layers: 0, ..plain() }), &starts);
    for (image_dim, added) in
        [(None, Some(1536)), (Some(1280), None), (Some(1280), Some(1280)), (Some(1280), Some(0))]
    {
        let config = WanConfig { image_dim, added_kv_proj_dim: added, ..plain() };
        let got = format!("{added:?} with image_dim {image_dim:?}");
        check_refused(load(config), &["added_kv_proj_dim: 1536", &got]);
    }
    let positions = |tokens| WanConfig { pos_embed_seq_len: Some(tokens), ..plain() };
    check_refused(load(positions(514)), &["pos_embed_seq_len"]);
    let odd = WanConfig { pos_embed_seq_len: Some(513), ..transformer("i2v-1.3B") };
    check_refused(load(odd), &["pos_embed_seq_len", "even"]);
}

#[test]
fn vaes() {
    let load = |config: VaeConfig| Vae::load(config, nothing()).err();
    let (old, new) = (VaeConfig::wan_2_1, VaeConfig::wan_2_2);
    check_passes(load(old()));
    check_passes(load(new()));
    check_passes(load(VaeConfig { in_channels: 16, ..new() }));
    let attending = VaeConfig { attn_scales: vec![0.5], ..old() };
    check_refused(load(attending), &["attn_scales"]);
    for steps in [vec![], vec![true, true], vec![false, true, true, false]] {
        let config = VaeConfig { temperal_downsample: steps, ..old() };
        check_refused(load(config), &["temperal_downsample", "dim_mult"]);
    }
    check_refused(load(VaeConfig { dim_mult: vec![], ..old() }), &["dim_mult"]);
    let empty = VaeConfig { dim_mult: vec![], temperal_downsample: vec![], ..old() };
    check_refused(load(empty), &["dim_mult"]);
    for (time, space) in [(2, 8), (8, 8), (4, 4), (4, 16), (8, 4)] {
        let config =
            VaeConfig { scale_factor_temporal: time, scale_factor_spatial: space, ..old() };
        check_refused(load(config), &["scale_factor_temporal", "scale_factor_spatial"]);
    }
    let unpatched = VaeConfig { patch_size: None, ..new() };
    check_refused(load(unpatched), &["scale_factor_spatial"]);
    for (inward, outward) in [(3, 12), (12, 3), (13, 12), (12, 14)] {
        let config = VaeConfig { in_channels: inward, out_channels: outward, ..new() };
        check_refused(load(config), &["in_channels", "out_channels"]);
    }
    let short = VaeConfig { latents_mean: vec![0.; 15], ..old() };
    check_refused(load(short), &["latents_mean", "z_dim"]);
    let long = VaeConfig { latents_std: vec![1.; 17], ..old() };
    check_refused(load(long), &["latents_std", "z_dim"]);
}

#[test]
fn encoders() {
    let load = |config: ClipVisionConfig| ClipVision::load(config, nothing()).err();
    let clip = ClipVisionConfig::vit_h_14;
    check_passes(load(clip()));
    check_passes(load(ClipVisionConfig { num_hidden_layers: 1, ..clip() }));
    check_refused(
        load(ClipVisionConfig { num_hidden_layers: 0, ..clip() }),
        &["num_hidden_layers"],
    );
    for heads in [0, 7] {
        let config = ClipVisionConfig { num_attention_heads: heads, ..clip() };
        check_refused(load(config), &["num_attention_heads", "hidden_size"]);
    }
    for patch_size in [0, 15] {
        let config = ClipVisionConfig { patch_size, ..clip() };
        check_refused(load(config), &["patch_size", "image_size"]);
    }
    assert_eq!(ClipVisionConfig { image_size: 42, ..clip() }.tokens(), 10);

    let load = |config: Umt5Config| Umt5Encoder::load(config, nothing()).err();
    check_passes(load(Umt5Config { num_layers: 1, ..Umt5Config::xxl() }));
    for buckets in [0, 2, 6, 31] {
        let config = Umt5Config { relative_attention_num_buckets: buckets, ..Umt5Config::xxl() };
        check_refused(load(config), &["relative_attention_num_buckets"]);
    }
    let buckets = |number, distance| Umt5Config {
        num_layers: 1,
        relative_attention_num_buckets: number,
        relative_attention_max_distance: distance,
        ..Umt5Config::xxl()
    };
    check_passes(load(buckets(4, 2)));
    check_passes(load(buckets(32, 9)));
    check_refused(load(buckets(32, 8)), &["relative_attention_max_distance"]);
    check_refused(load(buckets(4, 1)), &["relative_attention_max_distance"]);
}

/// The defaults of diffusers 0.42.1 and transformers 5.23.0, for members that a file leaves out.
#[test]
fn members_that_are_left_out_have_their_sources_defaults() {
    let text = r#"{"patch_size": [1, 2, 2], "num_attention_heads": 2, "attention_head_dim": 12,
        "in_channels": 16, "out_channels": 16, "text_dim": 8, "freq_dim": 8, "ffn_dim": 16,
        "num_layers": 1}"#;
    let config: WanConfig = serde_json::from_str(text).unwrap();
    assert!(config.cross_attn_norm && !config.inject_sample_info && !config.takes_image_tokens());
    assert_eq!((config.eps, config.rope_max_seq_len, config.num_frame_per_block), (1e-6, 1024, 1));
    let none = (config.image_dim, config.added_kv_proj_dim, config.pos_embed_seq_len);
    assert_eq!(none, (None, None, None));
    let text = r#"{"base_dim": 96, "z_dim": 1, "dim_mult": [1], "num_res_blocks": 2,
        "temperal_downsample": [], "latents_mean": [0], "latents_std": [1]}"#;
    let config: VaeConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.in_channels, config.out_channels, config.patch_side()), (3, 3, 1));
    assert_eq!((config.scale_factor_temporal, config.scale_factor_spatial), (4, 8));
    assert!(!config.is_residual && config.decoder_base_dim.is_none());
    let text = r#"{"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "image_size": 28, "patch_size": 14, "hidden_act": "quick_gelu"}"#;
    let config: ClipVisionConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.num_channels, config.layer_norm_eps, config.tokens()), (3, 1e-5, 5));
}

#[test]
fn weights_from_memory_are_named_as_those_from_files_are() {
    let table = "blocks.0.scale_shift_table";
    let tensor = candle_core::Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
    let tensors = HashMap::from([(table.to_owned(), tensor)]);
    let scope = Scope::new(tensors, DType::F32, &Device::Cpu);
    let error = WanModel::load(transformer("t2v-1.3B"), scope).err().unwrap();
    let said = error.to_string();
    let Error::WrongShape { origin, name, expected, found } = error else { panic!("{said}") };
    assert_eq!((origin.as_str(), name.as_str()), ("the given weights", table));
    assert_eq!((expected, found), (vec![1, 6, 1536], vec![4, 3]));
    let error = WanModel::load(transformer("t2v-1.3B"), nothing()).err().unwrap();
    let Error::MissingTensor { origin, name } = error else { panic!("{error}") };
    assert_eq!((origin.as_str(), name.as_str()), ("the given weights", table));
}

#[test]
fn published_transformers_have_as_many_tensors_as_their_files() {
    // Entries of `diffusion_pytorch_model.safetensors.index.json`, of Wan-AI's repositories.
    for (id, published) in [("t2v-1.3B", 825), ("t2v-14B", 1095), ("i2v-14B", 1303)] {
        let known = known().into_iter().find(|known| known.id == id).unwrap();
        assert_eq!(known.network.tensors().len(), published, "{id}");
    }
}

#[test]
fn a_model_without_blocks_needs_no_weights_of_them() {
    let config = WanConfig {
        num_attention_heads: 1,
        attention_head_dim: 12,
        text_dim: 8,
        ffn_dim: 16,
        num_layers: 2,
        ..transformer("t2v-1.3B")
    };
    let all = Network::Transformer(config.clone()).tensors().into_iter();
    let beside = all.filter(|(name, _)| !name.starts_with("blocks."));
    let zeros = |shape: Vec<usize>| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let beside: HashMap<_, _> = beside.map(|(name, shape)| (name, zeros(shape))).collect();
    let weights = || Scope::new(beside.clone(), DType::F32, &Device::Cpu);
    let numerics = Numerics::default();
    let model = WanModel::load_without_blocks(config.clone(), weights(), numerics).unwrap();
    assert_eq!((model.block_count(), model.config().num_layers), (0, 2));
    let error = WanModel::load(config, weights()).err().unwrap();
    assert!(error.to_string().contains("blocks.0."), "{error}");
}
