//! Weights at rest take what they take in their files, and layers that come for their turn are there
//! for that alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use wan_model::convert::{Container, Conversion, WrittenNumbers};
use wan_model::inspect::{Network, open};
use wan_model::lora::{Expert, FittedLora, Lora};
use wan_model::original_names::Layout;
use wan_model::published::find;
use wan_model::weights::{Scope, Weights};
use wan_model::{Attention, Numerics, Timesteps, WanConfig, WanModel};
use wan_tests::allocator;
use wan_tests::tiny_model::TinyModel;

use crate::{alone, most_above};

/// A transformer of 25 MB in f32.
fn config() -> WanConfig {
    WanConfig {
        num_attention_heads: 4,
        attention_head_dim: 64,
        text_dim: 16,
        freq_dim: 256,
        ffn_dim: 1024,
        num_layers: 6,
        ..find("t2v-14B").unwrap().transformer.clone()
    }
}

/// Its weights in files of one format each.
fn files(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    TinyModel::t2v().middling().with_freq_dim(256).write(folder).unwrap();
    let wide = folder.join("transformer/diffusion_pytorch_model.safetensors");
    let weights = Arc::new(Weights::open(std::slice::from_ref(&wide)).unwrap());
    let network = Network::Transformer(config());
    let narrow = ["bf16", "f16", "fp8", "Q8_0", "Q5_K", "Q4_K"].map(|name| {
        let numbers: WrittenNumbers = name.parse().unwrap();
        let container =
            if name.starts_with('Q') { Container::Gguf } else { Container::Safetensors };
        let layout = if name.starts_with('Q') { Layout::Transformer } else { Layout::Diffusers };
        let form = (container, layout, numbers);
        let conversion = Conversion::new(&network, &weights, Vec::new(), form).unwrap();
        let path = folder.join(name);
        conversion.write(fs::File::create(&path).unwrap(), &mut |_| {}).unwrap();
        (name, path)
    });
    std::iter::once(("f32", wide)).chain(narrow).collect()
}

fn scope(path: &Path) -> Scope {
    let weights = Arc::new(Weights::open(&[path.to_owned()]).unwrap());
    open(&Network::Transformer(config()), &weights, &Device::Cpu).unwrap()
}

/// Velocity of one evaluation.
fn forward(model: &WanModel) -> Vec<f32> {
    let ramp = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let numbers = (0..count).map(|n| ((n * 37 % 101) as f32 - 50.0) / 25.0).collect();
        Tensor::from_vec::<_, f32>(numbers, shape, &Device::Cpu).unwrap()
    };
    let text = model.text_context(&ramp(&[1, 12, 16])).unwrap();
    let timesteps = Timesteps::per_frame(&[vec![900.0, 500.0]]).unwrap();
    let embedded = model.embed(&ramp(&[1, 16, 2, 8, 8]), &timesteps, None).unwrap();
    let blocks = 0..model.block_count();
    let hidden =
        model.blocks(blocks, &embedded.hidden, &embedded, &text, Attention::Bidirectional).unwrap();
    model.head(&hidden, &embedded).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn weights_at_rest_take_what_their_file_does_and_compute_the_same_numbers() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (format, path) in files(folder.path()) {
        let scope = scope(&path);
        let before = allocator::begin();
        let model = WanModel::load(config(), scope.clone()).unwrap();
        let held = (allocator::held() - before) as f64;
        let bytes = fs::metadata(&path).unwrap().len() as f64;
        println!("{format}: {held} bytes held, {bytes} in the file, {:.4}", held / bytes);
        assert!(held <= 1.02 * bytes, "{format}: {held} bytes held, {bytes} in the file");
        // The same numbers, widened beforehand.
        let widened = widened(&path);
        let expected = forward(&WanModel::load(config(), widened).unwrap());
        assert!(expected.iter().any(|number| number.abs() > 1e-3));
        assert_eq!(forward(&model), expected, "{format}");
        drop(model);
        for streamed in [1, 4, 6] {
            let before = allocator::begin();
            let model = WanModel::load(config(), scope.streaming(streamed)).unwrap();
            let resident = allocator::held() - before;
            let turns = usize::try_from(model.turn_bytes_max()).unwrap();
            let (found, most) = most_above(before, || forward(&model));
            assert_eq!(found, expected, "{format}, {streamed} streamed");
            let read = model.streamed();
            assert!(read.bytes > 0 && read.waiting <= read.reading + read.waiting);
            // A tensor is read before it takes its place, and the forward itself holds little.
            let forward = 9 << 20;
            assert!(
                (most as usize) < resident + turns + forward,
                "{format}: {most} held, {resident} stay, {turns} come and go"
            );
        }
    }
}

/// The weights of a file, as tensors in f32.
fn widened(path: &Path) -> Scope {
    let weights = Weights::open(&[path.to_owned()]).unwrap();
    let tensors: std::collections::HashMap<String, Tensor> = weights
        .names()
        .iter()
        .map(|name| {
            let wide = weights.tensor(name, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
            let network = Network::Transformer(config());
            let shape = network.tensors()[*name].clone();
            ((*name).to_owned(), wide.reshape(shape.as_slice()).unwrap())
        })
        .collect();
    Scope::new(tensors, DType::F32, &Device::Cpu)
}

#[test]
fn a_file_that_is_cut_while_its_layers_come_and_go_is_an_error() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_, path) = files(folder.path()).remove(1);
    let numerics = Numerics::default();
    let model = WanModel::load_with(config(), scope(&path).streaming(6), numerics).unwrap();
    let before = forward(&model);
    let bytes = fs::read(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let prompt = Tensor::ones((1, 12, 16), DType::F32, &Device::Cpu).unwrap();
    let error = model.text_context(&prompt).unwrap_err().to_string();
    assert!(error.contains("bf16"), "the file is named: {error}");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(forward(&model), before, "it goes on once the file is whole");
}

/// A LoRA of rank 8 on the queries and the feed-forward of every block.
fn lora(folder: &Path) -> PathBuf {
    let mut tensors = std::collections::HashMap::new();
    for block in 0..6 {
        for (module, inputs, outputs) in [("attn1.to_q", 256, 256), ("ffn.net.2", 1024, 256)] {
            let ramp = |rows: usize, columns: usize, seed: usize| {
                let number = |n: usize| ((n * 131 + seed * 17) % 97) as f32 / 970.0 - 0.05;
                let numbers = (0..rows * columns).map(number).collect::<Vec<_>>();
                Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)
            };
            let name = format!("transformer.blocks.{block}.{module}");
            let half = |tensor: Tensor| tensor.to_dtype(DType::BF16).unwrap();
            let (down, up) =
                (ramp(8, inputs, block).unwrap(), ramp(outputs, 8, block + 7).unwrap());
            tensors.insert(format!("{name}.lora_A.weight"), half(down));
            tensors.insert(format!("{name}.lora_B.weight"), half(up));
        }
    }
    let path = folder.join("lora.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

#[test]
fn a_lora_beside_a_weight_gives_the_bits_of_the_merged_weight() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let network = Network::Transformer(config());
    let file = Arc::new(Lora::open(&lora(folder.path())).unwrap());
    let fitted = Arc::new(FittedLora::new(&file, &network, 0.7, Expert::Only).unwrap());
    for (format, path) in files(folder.path()) {
        let beside = scope(&path).with_loras(vec![fitted.clone()]);
        // The merged weights, as tensors in f32.
        let merged = network.tensors().into_iter().map(|(name, shape)| {
            let weight = beside.weight(shape.as_slice(), &name).unwrap();
            (name, weight.to_tensor(DType::F32, &Device::Cpu).unwrap())
        });
        let merged: std::collections::HashMap<String, Tensor> = merged.collect();
        let merged = Scope::new(merged, DType::F32, &Device::Cpu);
        let model = WanModel::load(config(), beside.clone()).unwrap();
        let expected = forward(&WanModel::load(config(), merged).unwrap());
        assert_eq!(forward(&model), expected, "{format}");
        let plain = forward(&WanModel::load(config(), scope(&path)).unwrap());
        assert_ne!(plain, expected, "{format}: the LoRA does nothing");
        drop(model);
        let streamed = WanModel::load(config(), beside.streaming(6)).unwrap();
        assert_eq!(forward(&streamed), expected, "{format}, streamed");
    }
}
