//! Weights that are not those of the model: refused before anything is computed, each tensor by its
//! name; and tensors that do no harm are let through.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use wan_tests::tiny_model::TinyModel;

use crate::tiny_bench::Bench;

type Tensors = HashMap<String, Tensor>;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

/// Changes a part's file for the time of a check.
pub(crate) fn with_changed(
    bench: &Bench,
    part: &str,
    change: impl FnOnce(&mut Tensors),
    check: impl FnOnce(),
) {
    let stem = if ["transformer", "vae"].contains(&part) { "diffusion_pytorch_" } else { "" };
    let file: PathBuf = bench.root().join(part).join(format!("{stem}model.safetensors"));
    let whole = std::fs::read(&file).unwrap();
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    check();
    std::fs::write(&file, whole).unwrap();
}

/// A tensor of each part of an image-to-video model.
const TENSORS: [(&str, &str); 4] = [
    ("transformer", "blocks.1.attn1.to_q.weight"),
    ("vae", "decoder.conv_in.weight"),
    ("text_encoder", "encoder.block.0.layer.0.SelfAttention.q.weight"),
    ("image_encoder", "vision_model.encoder.layers.1.mlp.fc1.weight"),
];

#[test]
fn missing_renamed_and_misshaped_tensors_are_named_in_every_part() {
    let bench = Bench::new(TinyModel::i2v(), &["--task", "i2v-14B", "--image", "not-read.png"]);
    for (part, name) in TENSORS {
        let refused = |expected: &str| bench.unusable(&[], expected);
        let gone = format!("tensor `{name}` is missing, expected with shape [");
        with_changed(&bench, part, |tensors| drop(tensors.remove(name)), || refused(&gone));
        with_changed(
            &bench,
            part,
            |tensors| {
                let tensor = tensors.remove(name).unwrap();
                tensors.insert("oops.weight".into(), tensor);
            },
            || {
                refused(&gone);
                refused("tensor `oops.weight` of shape [");
                refused("renamed?");
            },
        );
        with_changed(
            &bench,
            part,
            |tensors| drop(tensors.insert(name.into(), zeros(&[3]))),
            || refused(&format!("tensor `{name}` has shape [3], expected [")),
        );
        with_changed(
            &bench,
            part,
            |tensors| drop(tensors.insert("other_blocks.0.proj_out.weight".into(), zeros(&[3]))),
            || {
                refused("`other_blocks.0.proj_out.weight` of shape [3] is unexpected");
                refused("belong to another model");
            },
        );
    }
}

#[test]
fn tensors_that_do_no_harm_are_let_through() {
    let bench = Bench::new(TinyModel::i2v(), &["--task", "i2v-14B"]);
    let plain = bench.with_picture_hash("plain");
    with_changed(
        &bench,
        "image_encoder",
        |tensors| {
            tensors.insert("vision_model.post_layernorm.weight".into(), zeros(&[16]));
            tensors.insert("vision_model.embeddings.position_ids".into(), zeros(&[1, 5]));
        },
        || {
            with_changed(
                &bench,
                "text_encoder",
                |tensors| drop(tensors.insert("spiece_model".into(), zeros(&[7]))),
                || assert_eq!(bench.with_picture_hash("more"), plain),
            )
        },
    );
}

#[test]
fn many_problems_are_counted_and_parts_of_different_models_are_told_apart() {
    let bench = Bench::new(TinyModel::t2v(), &[]);
    with_changed(
        &bench,
        "transformer",
        |tensors| tensors.retain(|name, _| !name.starts_with("blocks.1.")),
        || bench.unusable(&[], "more like it"),
    );
    let other = Bench::new(TinyModel::ti2v_5b(), &[]);
    std::fs::remove_dir_all(bench.root().join("vae")).unwrap();
    std::fs::rename(other.root().join("vae"), bench.root().join("vae")).unwrap();
    bench.unusable(&[], "out_channels is 16, the VAE's z_dim is 48");
}
