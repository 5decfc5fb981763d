//! Small files of every layout.

use std::path::Path;

use super::*;

fn save(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("weights.safetensors");
    let weight = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let halved = weight.to_dtype(DType::F16).unwrap();
    candle_core::safetensors::save(
        &HashMap::from([("part.full.weight", weight), ("part.half.weight", halved)]),
        &path,
    )
    .unwrap();
    path
}

#[test]
fn tensors_come_under_a_stripped_prefix_and_half_is_widened() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&folder);
    let vb = open(&[path], DType::F32, &Device::Cpu).unwrap().pp("part");
    let full = vb.get((2, 3), "full.weight").unwrap();
    let half = vb.get((2, 3), "half.weight").unwrap();
    assert_eq!(half.dtype(), DType::F32);
    assert_eq!(full.to_vec2::<f32>().unwrap(), half.to_vec2::<f32>().unwrap());
    assert_eq!(full.to_vec2::<f32>().unwrap()[1], [3., 4., 5.]);
}

#[test]
fn a_truncated_file_says_so_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&folder);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 5, 20, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Weights::open(std::slice::from_ref(&path)).err().unwrap().to_string();
        assert!(error.contains("weights.safetensors"), "{length}: {error}");
        assert!(error.contains(&length.to_string()), "{length}: {error}");
    }
}

#[test]
fn wrong_shapes_and_missing_tensors_are_named_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&folder);
    let vb = open(&[path], DType::F32, &Device::Cpu).unwrap();
    let error = vb.pp("part").get((3, 2), "full.weight").unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::WrongShape { .. }), "{message}");
    for fact in ["weights.safetensors", "part.full.weight", "[2, 3]", "[3, 2]"] {
        assert!(message.contains(fact), "{message}");
    }
    let missing = vb.get((2, 3), "gone.weight").err().unwrap();
    assert!(missing.to_string().contains("`gone.weight` is missing"), "{missing}");
    assert!(missing.to_string().contains("weights.safetensors"), "{missing}");
}

pub(super) fn write(path: &Path, tensors: &[(&str, Tensor)]) {
    let tensors: HashMap<_, _> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

pub(super) fn count(shape: &[usize]) -> Tensor {
    let numbers = Tensor::arange(0f32, shape.iter().product::<usize>() as f32, &Device::Cpu);
    numbers.unwrap().reshape(shape).unwrap()
}

#[test]
fn original_names_are_found_by_diffusers_names_behind_any_prefix() {
    let folder = tempfile::tempdir().unwrap();
    for prefix in ["", "model.diffusion_model."] {
        let path = folder.path().join("wan.safetensors");
        let names = ["head.modulation", "blocks.7.norm3.weight", "something.else"];
        let names = names.map(|name| format!("{prefix}{name}"));
        write(&path, &names.each_ref().map(|name| (name.as_str(), count(&[2]))));
        let weights = Weights::open(&[path]).unwrap();
        assert_eq!(weights.layout(), Layout::Transformer);
        let expected = ["blocks.7.norm2.weight", "scale_shift_table", "something.else"];
        assert_eq!(weights.names(), expected);
        assert_eq!(weights.original_name("scale_shift_table"), Some(names[0].as_str()));
    }
}

#[test]
fn queries_keys_and_values_of_one_tensor_are_its_thirds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.safetensors");
    write(
        &path,
        &[
            ("visual.cls_embedding", count(&[1, 1, 2])),
            ("visual.transformer.0.attn.to_qkv.weight", count(&[6, 2])),
            ("visual.transformer.0.attn.to_qkv.bias", count(&[6])),
        ],
    );
    let vb = open(&[path], DType::F32, &Device::Cpu).unwrap().pp("vision_model");
    let class = vb.get(2, "embeddings.class_embedding").unwrap();
    assert_eq!(class.to_vec1::<f32>().unwrap(), [0., 1.]);
    let attention = vb.pp("encoder.layers.0.self_attn");
    let key = attention.get((2, 2), "k_proj.weight").unwrap();
    assert_eq!(key.to_vec2::<f32>().unwrap(), [[4., 5.], [6., 7.]]);
    let value = attention.get(2, "v_proj.bias").unwrap();
    assert_eq!(value.to_vec1::<f32>().unwrap(), [4., 5.]);
}

#[test]
fn scaled_8_bit_floats_are_multiplied_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fp8.safetensors");
    let eighth = count(&[2, 2]).to_dtype(DType::F8E4M3).unwrap();
    let scale = Tensor::new(0.5f32, &Device::Cpu).unwrap();
    write(
        &path,
        &[
            ("head.modulation", count(&[1])),
            ("blocks.0.ffn.0.weight", eighth),
            ("blocks.0.ffn.0.scale_weight", scale),
            ("scaled_fp8", count(&[2])),
        ],
    );
    let weights = Weights::open(std::slice::from_ref(&path)).unwrap();
    assert_eq!(weights.names(), ["blocks.0.ffn.net.0.proj.weight", "scale_shift_table"]);
    assert_eq!(weights.encoding("blocks.0.ffn.net.0.proj.weight"), Some(Encoding::F8E4M3));
    let vb = open(&[path], DType::F32, &Device::Cpu).unwrap();
    let weight = vb.get((2, 2), "blocks.0.ffn.net.0.proj.weight").unwrap();
    assert_eq!(weight.to_vec2::<f32>().unwrap(), [[0., 0.5], [1., 1.5]]);
}

#[test]
fn an_index_stands_for_its_shards_and_a_missing_tensor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("model-1.safetensors"), &[("a", count(&[1]))]);
    write(&at("model-2.safetensors"), &[("b", count(&[3])), ("c", count(&[2]))]);
    let index = at("model.safetensors.index.json");
    let map = r#"{"metadata": {"total_size": 24}, "weight_map":
        {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}}"#;
    std::fs::write(&index, map).unwrap();
    let weights = Weights::open(std::slice::from_ref(&index)).unwrap();
    assert_eq!(weights.names(), ["a", "b", "c"]);
    assert_eq!(weights.shape("b"), Some([3].as_slice()));

    write(&at("model-2.safetensors"), &[("b", count(&[3]))]);
    let error = Weights::open(std::slice::from_ref(&index)).err().unwrap().to_string();
    assert!(error.contains("model-2.safetensors: tensor `c` should be here"), "{error}");
    std::fs::remove_file(at("model-1.safetensors")).unwrap();
    let error = Weights::open(&[index]).err().unwrap().to_string();
    assert!(error.contains("model-1.safetensors"), "{error}");
}

#[test]
fn a_tensor_that_two_files_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["full.safetensors", "half.safetensors"].map(|name| folder.path().join(name));
    paths.iter().for_each(|path| write(path, &[("a", count(&[1]))]));
    let error = Weights::open(&paths).err().unwrap().to_string();
    for fact in ["`a`", "full.safetensors", "half.safetensors"] {
        assert!(error.contains(fact), "{error}");
    }
}
