//! What is written is read again, by us and by the safetensors crate.

use std::collections::BTreeMap;
use std::io;

use super::{GgufWriter, SafetensorsWriter};
use crate::testing::open;
use crate::{Encoding, TensorInfo};

fn info(name: &str, shape: &[usize], encoding: Encoding) -> TensorInfo {
    TensorInfo { name: name.to_owned(), shape: shape.to_vec(), encoding }
}

fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect()
}

/// Bytes that differ from tensor to tensor.
fn bytes(tensor: &TensorInfo, number: usize) -> Vec<u8> {
    (0..tensor.bytes()).map(|i| (i as usize * 7 + number) as u8).collect()
}

fn safetensors(tensors: &[TensorInfo], words: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut writer = SafetensorsWriter::new(Vec::new(), tensors, words)?;
    for (number, tensor) in tensors.iter().enumerate() {
        writer.put(&bytes(tensor, number))?;
    }
    writer.finish()
}

fn gguf(tensors: &[TensorInfo], words: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut writer = GgufWriter::new(Vec::new(), tensors, words)?;
    for (number, tensor) in tensors.iter().enumerate() {
        writer.put(&bytes(tensor, number))?;
    }
    writer.finish()
}

/// Fails unless the file holds these tensors with the bytes of [`bytes`].
fn holds(file: &[u8], tensors: &[TensorInfo]) {
    let file = open(file).unwrap();
    assert_eq!(file.tensors(), tensors);
    for (number, tensor) in tensors.iter().enumerate() {
        assert_eq!(file.read(number).unwrap(), bytes(tensor, number), "{}", tensor.name);
    }
}

#[track_caller]
fn refused(result: io::Result<Vec<u8>>, words: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn safetensors_are_read_again() {
    let tensors = [
        info("z \"quoted\"\n", &[3, 2], Encoding::F8E4M3),
        info("a", &[], Encoding::F32),
        info("none", &[0, 4], Encoding::F64),
        info("flag", &[5], Encoding::Bool),
    ];
    let words = words(&[("format", "pt"), ("über", "\u{1}")]);
    let file = safetensors(&tensors, &words).unwrap();
    holds(&file, &tensors);
    assert_eq!(open(&file).unwrap().metadata(), &words);
    assert_eq!(u64::from_le_bytes(*file.first_chunk().unwrap()) % 8, 0);
    let crates = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(crates.len(), 4);
    assert_eq!(crates.tensor("flag").unwrap().data(), bytes(&tensors[3], 3));
    holds(&safetensors(&[], &BTreeMap::new()).unwrap(), &[]);
}

#[test]
fn gguf_is_read_again() {
    let tensors = [
        info("patch_embedding.weight", &[3, 2, 1, 2, 2], Encoding::F32),
        info("q", &[2, 256], Encoding::Q4K),
        info("odd", &[7], Encoding::BF16),
        info("scalar", &[], Encoding::F16),
        info("k", &[3, 64], Encoding::Iq4Nl),
    ];
    let words = words(&[
        ("general.architecture", "wan"),
        ("general.file_type", "15"),
        ("general.quantization_version", "2"),
        ("general.alignment", "32"),
    ]);
    let file = gguf(&tensors, &words).unwrap();
    holds(&file, &tensors);
    assert_eq!(open(&file).unwrap().metadata(), &words);
    assert_eq!(file.len() % 32, 0);
    holds(&gguf(&[], &BTreeMap::new()).unwrap(), &[]);
}

#[test]
fn an_original_shape_is_given_back() {
    let words = words(&[("comfy.gguf.orig_shape.x", "2, 1, 32")]);
    let file = open(&gguf(&[info("x", &[4, 16], Encoding::F32)], &words).unwrap()).unwrap();
    assert_eq!(file.tensors()[0].shape, [2, 1, 32]);
}

#[test]
fn what_a_format_does_not_hold_is_refused_by_name() {
    let none = BTreeMap::new();
    refused(safetensors(&[info("x", &[32], Encoding::Q8_0)], &none), &["`x`", "Q8_0"]);
    refused(safetensors(&[info("x", &[1], Encoding::Other(8))], &none), &["`x`"]);
    refused(safetensors(&[info("__metadata__", &[1], Encoding::U8)], &none), &["__metadata__"]);
    for encoding in [Encoding::F8E4M3, Encoding::I8, Encoding::F64, Encoding::Bool] {
        refused(gguf(&[info("x", &[4], encoding)], &none), &["`x`", encoding.name()]);
    }
    refused(gguf(&[info("x", &[32, 1], Encoding::Q8_0)], &none), &["`x`", "[32, 1]"]);
    refused(gguf(&[info("x", &[31], Encoding::Q8_0)], &none), &["`x`", "[31]", "Q8_0"]);
    let twice = [info("x", &[1], Encoding::F32), info("x", &[2], Encoding::F32)];
    refused(gguf(&twice, &none), &["`x`", "twice"]);
    refused(safetensors(&twice, &none), &["`x`", "twice"]);
    refused(safetensors(&[info("x", &[1 << 62, 2], Encoding::F32)], &none), &["`x`"]);
    // 2^60 bytes each.
    let huge: Vec<TensorInfo> =
        (0..16).map(|i| info(&format!("x{i}"), &[1 << 58], Encoding::F32)).collect();
    let result = SafetensorsWriter::new(Vec::new(), &huge, &none).map(|_| Vec::new());
    refused(result, &["`x15`", "count"]);
    let result = GgufWriter::new(Vec::new(), &huge, &none).map(|_| Vec::new());
    refused(result, &["`x15`", "count"]);
}

#[test]
fn metadata_that_are_no_numbers_are_refused() {
    for (key, text) in [
        ("general.file_type", "fifteen"),
        ("general.quantization_version", "-1"),
        ("general.alignment", "64"),
        ("comfy.gguf.orig_shape.x", "2x2"),
    ] {
        refused(gguf(&[], &words(&[(key, text)])), &[key, text]);
    }
}

#[test]
fn a_file_is_what_its_header_says() {
    let (none, tensors) = (BTreeMap::new(), [info("x", &[2], Encoding::F32)]);
    let mut writer = SafetensorsWriter::new(Vec::new(), &tensors, &none).unwrap();
    refused(writer.put(&[0; 7]).map(|()| Vec::new()), &["`x`", "7 bytes", "expected 8"]);
    writer.put(&[0; 8]).unwrap();
    refused(writer.put(&[0; 8]).map(|()| Vec::new()), &["all 1 tensors"]);
    assert!(writer.finish().is_ok());
    let writer = SafetensorsWriter::new(Vec::new(), &tensors, &none).unwrap();
    refused(writer.finish(), &["0 of 1", "`x`"]);
    let mut writer = GgufWriter::new(Vec::new(), &tensors, &none).unwrap();
    refused(writer.put(&[0; 9]).map(|()| Vec::new()), &["`x`", "9 bytes"]);
    refused(writer.finish(), &["0 of 1", "`x`"]);
}
