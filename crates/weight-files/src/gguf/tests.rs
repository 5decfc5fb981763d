//! A file that the `gguf` package wrote, and files made wrong byte by byte.

mod built;

use safetensors::SafeTensors;

use crate::testing::{open, refused};
use built::{Built, array, entry, key, string};

/// Written by `small_gguf.py`, which is beside them.
const SMALL: &[u8] = include_bytes!("../../tests/golden/small.gguf");
const NUMBERS: &[u8] = include_bytes!("../../tests/golden/small.safetensors");

const F32: u32 = 0;
const Q8_0: u32 = 8;

#[test]
fn a_file_of_the_gguf_package_is_read() {
    let file = open(SMALL).unwrap();
    assert_eq!(file.format(), "GGUF");
    let expected = SafeTensors::deserialize(NUMBERS).unwrap();
    let mut formats = Vec::new();
    for (number, tensor) in file.tensors().iter().enumerate() {
        let expected = expected.tensor(&tensor.name).unwrap();
        assert_eq!(tensor.shape, expected.shape(), "{}", tensor.name);
        let mut found = vec![0.0; tensor.elements()];
        assert!(tensor.encoding.widen(&file.read(number).unwrap(), &mut found));
        let found: Vec<u8> = found.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(found, expected.data(), "{}", tensor.name);
        formats.push(tensor.encoding.name());
    }
    assert_eq!(formats, ["F32", "F16", "Q8_0", "BF16", "F32"]);
}

#[test]
fn metadata_are_texts_without_lists() {
    let file = open(SMALL).unwrap();
    let metadata = file.metadata();
    for (key, text) in [
        ("general.architecture", "wan"),
        ("general.quantization_version", "2"),
        ("general.file_type", "7"),
        ("scale", "0.25"),
        ("flag", "true"),
        ("minus", "-3"),
    ] {
        assert_eq!(metadata.get(key).map(String::as_str), Some(text), "{key}");
    }
    let words = &metadata["words"];
    assert!(words.starts_with("größer") && words.ends_with("é…"), "{words}");
    assert!(words.len() <= 1024 + "…".len(), "{}", words.len());
    assert!(!metadata.keys().any(|key| key.contains("tokens") || key.contains("orig_shape")));
}

#[test]
fn a_part_of_a_tensor_is_read() {
    let file = open(SMALL).unwrap();
    let number = file.tensors().iter().position(|t| t.name == "blocks.0.q.weight").unwrap();
    let whole = file.read(number).unwrap();
    assert_eq!(file.read_part(number, 68..136).unwrap(), whole[68..136]);
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    let with = |version: u32| {
        let mut bytes = SMALL.to_vec();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes
    };
    assert_eq!(open(&with(2)).unwrap().tensors().len(), 5);
    refused(&with(1), &["version 1", "newer"]);
    refused(&with(3u32.swap_bytes()), &["big-endian"]);
    refused(&with(4), &["version 4"]);
}

#[test]
fn every_cut_is_refused() {
    // The last tensor has 20 bytes, which are filled up to 32.
    for length in (4..SMALL.len() - 12).step_by(41) {
        refused(&SMALL[..length], &["cut short"]);
    }
    refused(&SMALL[..SMALL.len() - 40], &["blocks.0.k.weight", "cut short", "9568"]);
}

#[test]
fn claims_are_refused_before_anything_is_done_for_them() {
    let tensor = entry("x", &[4], F32, 0);
    refused(&Built { tensors: Some(1 << 60), ..Built::new(&[], &[]) }.bytes(), &["tensors"]);
    refused(&Built { keys: Some(1 << 60), ..Built::new(&[], &[]) }.bytes(), &["metadata keys"]);
    let long = [&(1u64 << 62).to_le_bytes()[..], &[0; 64]].concat();
    refused(&Built::new(std::slice::from_ref(&long), &[]).bytes(), &["key", "4611686018427387904"]);
    refused(&Built::new(&[], &[long]).bytes(), &["name of tensor 0"]);
    let string = key("words", 8, &(1u64 << 62).to_le_bytes());
    refused(&Built::new(&[string], std::slice::from_ref(&tensor)).bytes(), &["cut short"]);
    for element in [0, 5, 8, 12] {
        let array = key("list", 9, &array(element, 1 << 61, &[]));
        refused(&Built::new(&[array], std::slice::from_ref(&tensor)).bytes(), &["cut short"]);
    }
}

#[test]
fn arrays_of_arrays_are_passed_over_to_a_depth() {
    let nested = |depth: usize| {
        let inner = array(1, 3, &[1, 2, 3]);
        (0..depth).fold(inner, |inner, _| array(9, 2, &[&inner[..], &array(8, 0, &[])].concat()))
    };
    let built = |depth| {
        let after = key("after", 0, &[7]);
        let keys = [key("nested", 9, &nested(depth)), after];
        Built { data: 16, ..Built::new(&keys, &[entry("x", &[4], F32, 0)]) }.bytes()
    };
    assert_eq!(open(&built(3)).unwrap().metadata()["after"], "7");
    refused(&built(20), &["nested", "8 deep"]);
}

#[test]
fn metadata_that_contradict_are_refused() {
    let tensor = [entry("x", &[4], F32, 0)];
    let with = |keys: &[Vec<u8>]| Built { data: 16, ..Built::new(keys, &tensor) }.bytes();
    assert!(open(&with(&[])).is_ok());
    refused(&with(&[key("a", 0, &[1]), key("a", 0, &[1])]), &["`a`", "twice"]);
    refused(&with(&[key("a", 13, &[1])]), &["`a`", "type 13"]);
    refused(&with(&[key("a", 9, &array(13, 1, &[1]))]), &["`a`", "type 13"]);
    for alignment in [0u32, 4, 24, 48] {
        let key = key("general.alignment", 4, &alignment.to_le_bytes());
        refused(&with(&[key]), &["general.alignment", &alignment.to_string(), "power of two"]);
    }
    let count = key("split.count", 2, &3u16.to_le_bytes());
    let number = key("split.no", 2, &1u16.to_le_bytes());
    refused(&with(&[count, number]), &["part 2", "3 files", "llama-gguf-split"]);
    assert!(open(&with(&[key("split.count", 2, &1u16.to_le_bytes())])).is_ok());
}

#[test]
fn original_shapes_have_as_many_elements() {
    let with = |name: &str, element: u32, axes: &[i32]| {
        let axes: Vec<u8> = axes.iter().flat_map(|axis| axis.to_le_bytes()).collect();
        let array = array(element, axes.len() as u64 / 4, &axes);
        let shape = key(&format!("comfy.gguf.orig_shape.{name}"), 9, &array);
        Built { data: 32, ..Built::new(&[shape], &[entry("x", &[4, 2], F32, 0)]) }.bytes()
    };
    assert_eq!(open(&with("x", 5, &[1, 2, 2, 2])).unwrap().tensors()[0].shape, [1, 2, 2, 2]);
    assert_eq!(open(&with("y", 5, &[7])).unwrap().tensors()[0].shape, [2, 4]);
    refused(&with("x", 5, &[3, 3]), &["`x`", "[2, 4]", "[3, 3]"]);
    refused(&with("x", 5, &[-8]), &["orig_shape.x", "-8"]);
    refused(&with("x", 4, &[8]), &["orig_shape.x", "type 4"]);
    refused(&with("x", 5, &[i32::MAX; 5]), &["`x`"]);
    refused(&with("x", 5, &[1; 9]), &["orig_shape.x", "at most 8"]);
}

#[test]
fn tensors_that_cannot_be_are_refused_by_name() {
    let with = |entries: &[Vec<u8>]| Built { data: 128, ..Built::new(&[], entries) }.bytes();
    let one = |dimensions: &[u64], id, offset| with(&[entry("the.x", dimensions, id, offset)]);
    assert!(open(&one(&[32, 2], Q8_0, 32)).is_ok());
    refused(&one(&[1; 6], F32, 0), &["the.x", "6 dimensions"]);
    refused(&one(&[1 << 40, 1 << 40], F32, 0), &["the.x", "product"]);
    refused(&one(&[1 << 62], F32, 0), &["the.x", "product"]);
    refused(&one(&[1 << 40, 1 << 40, 0], F32, 0), &["the.x", "product"]);
    refused(&one(&[48, 2], Q8_0, 0), &["the.x", "48", "blocks of 32", "Q8_0"]);
    refused(&one(&[], Q8_0, 0), &["the.x", "blocks of 32"]);
    refused(&one(&[4], F32, 8), &["the.x", "byte 8", "alignment 32"]);
    refused(&one(&[32], F32, 32), &["the.x", "cut short", "of the file"]);
    refused(&one(&[4], F32, 1 << 40), &["the.x", "cut short"]);
    refused(&one(&[4], F32, u64::MAX - 31), &["the.x"]);
    refused(&with(&[entry("x", &[4], F32, 0), entry("x", &[4], F32, 32)]), &["`x`", "twice"]);
    let shared = [entry("left", &[12], F32, 32), entry("right", &[4], F32, 64)];
    refused(&with(&shared), &["left", "right", "share"]);
    let mut name = entry("name", &[4], F32, 0);
    name[9] = 0xff;
    refused(&with(&[name]), &["tensor 0", "UTF-8"]);
}

#[test]
fn empty_and_dimensionless_tensors_are_read() {
    let entries = [entry("empty", &[0, 3], F32, 0), entry("one", &[], F32, 0)];
    let file = open(&Built { data: 4, ..Built::new(&[], &entries) }.bytes()).unwrap();
    assert_eq!(file.tensors()[0].shape, [3, 0]);
    assert!(file.read(0).unwrap().is_empty());
    assert_eq!(file.tensors()[1].elements(), 1);
    assert_eq!(file.read(1).unwrap(), [1, 1, 1, 1]);
}

#[test]
fn types_that_are_not_read_are_named() {
    for (id, name) in [(9, "Q8_1"), (16, "IQ2_XXS"), (21, "IQ3_S"), (28, "F64"), (39, "MXFP4")] {
        let built = Built { data: 999, ..Built::new(&[], &[entry("the.x", &[256], id, 0)]) };
        refused(&built.bytes(), &["the.x", name, &format!("type {id}"), "Q4_K"]);
    }
    refused(&Built::new(&[], &[entry("x", &[1], 77, 0)]).bytes(), &["unknown", "77"]);
}

#[test]
fn another_alignment_counts() {
    let alignment = key("general.alignment", 4, &8u32.to_le_bytes());
    let entries = [entry("a", &[1], F32, 0), entry("b", &[2], F32, 8)];
    let built = Built { data: 16, alignment: 8, ..Built::new(&[alignment], &entries) };
    let file = open(&built.bytes()).unwrap();
    assert_eq!(file.read(1).unwrap(), [1; 8]);
}

#[test]
fn a_tokenizer_of_256_000_words_is_passed_over() {
    let words: Vec<u8> = (0..256_000).flat_map(|i| string(&format!("word {i}"))).collect();
    let words = key("tokens", 9, &array(8, 256_000, &words));
    let built = Built { data: 16, ..Built::new(&[words], &[entry("x", &[4], F32, 0)]) };
    let file = open(&built.bytes()).unwrap();
    assert_eq!(file.read(0).unwrap(), [1; 16]);
    assert!(file.metadata().is_empty());
}
