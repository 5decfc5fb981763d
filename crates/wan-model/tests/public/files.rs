//! Weight files, byte by byte: what is refused, with which facts, and what is read from where.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use tempfile::TempDir;
use wan_model::Error;
use wan_model::weights::{FileError, Weights};

/// A safetensors file of these header words and bytes.
fn write(folder: &TempDir, name: &str, header: &str, body: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    fs::write(&path, bytes).unwrap();
    path
}

fn refusal(path: &Path) -> String {
    let error = Weights::open(&[path.to_owned()]).err().expect("refused");
    let said = error.to_string();
    assert!(said.contains(path.file_name().unwrap().to_str().unwrap()), "{said}");
    said
}

const TWO_BYTES: &str = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;

#[test]
fn a_file_is_as_long_as_its_header_says() {
    let folder = tempfile::tempdir().unwrap();
    let whole = 8 + TWO_BYTES.len() + 2;
    let said = refusal(&write(&folder, "short.safetensors", TWO_BYTES, &[1]));
    assert!(
        said.contains(&format!("describes {whole} bytes, the file has {}", whole - 1)),
        "{said}"
    );
    let said = refusal(&write(&folder, "long.safetensors", TWO_BYTES, &[7, 8, 9]));
    assert!(
        said.contains(&format!("describes {whole} bytes, the file has {}", whole + 1)),
        "{said}"
    );
    let path = write(&folder, "whole.safetensors", TWO_BYTES, &[7, 8]);
    let tensor = Weights::open(&[path]).unwrap().tensor("a", &Device::Cpu).unwrap();
    assert_eq!(tensor.to_vec1::<u8>().unwrap(), [7, 8]);
}

#[test]
fn what_is_no_header_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    fs::write(&path, []).unwrap();
    assert!(refusal(&path).contains("empty (0 bytes)"));
    for length in [7usize, 8] {
        fs::write(&path, vec![0; length]).unwrap();
        assert!(refusal(&path).contains(&format!("first {length} bytes are zeros")));
    }
    // A header of 3 bytes in a file with room for 2.
    fs::write(&path, [3, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).unwrap();
    let said = refusal(&path);
    assert!(said.contains("a header of 3 bytes, the file has 10"), "{said}");
    fs::write(&path, b"<!DOCTYPE html><title>Sign in</title>").unwrap();
    assert!(refusal(&path).contains("a web page"));
    assert!(refusal(&write(&folder, "words.safetensors", "{]", &[])).contains("cannot be read"));
    // More than the format allows, in a file that is as long (and takes no room).
    let file = fs::File::create(&path).unwrap();
    file.set_len(200_000_000).unwrap();
    drop(file);
    let mut bytes = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let begin = [&100_000_001u64.to_le_bytes()[..], b"{"].concat();
    std::io::Write::write_all(&mut bytes, &begin).unwrap();
    assert!(refusal(&path).contains("should have 100000001 bytes"));
    let error = Weights::open(&[folder.path().join("none.safetensors")]).err().unwrap();
    assert!(matches!(error, Error::WeightFile(FileError::File(_))));
    assert!(error.to_string().contains("none.safetensors"));
}

#[test]
fn each_tensor_is_read_from_its_place_in_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"__metadata__":{"format":"pt"},
        "half":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
        "brain":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]},
        "full":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},
        "none":{"dtype":"F32","shape":[0],"data_offsets":[16,16]}}"#;
    // 1 and -2 in each format.
    let mut body = vec![0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f, 0x00, 0xc0];
    body.extend([1f32, -2.].iter().flat_map(|number| number.to_le_bytes()));
    let path = write(&folder, "three.safetensors", header, &body);
    let weights = Weights::open(std::slice::from_ref(&path)).unwrap();
    assert_eq!(weights.names(), ["brain", "full", "half", "none"]);
    for (name, format, bytes, shape) in [
        ("half", "F16", 4, &[2][..]),
        ("brain", "BF16", 4, &[1, 2]),
        ("full", "F32", 8, &[2, 1]),
        ("none", "F32", 0, &[0]),
    ] {
        assert_eq!(weights.encoding(name).unwrap().name(), format);
        assert_eq!((weights.bytes(name), weights.shape(name)), (Some(bytes), Some(shape)));
        assert_eq!(weights.original_name(name), Some(name));
    }
    assert_eq!((weights.bytes("gone"), weights.shape("gone")), (None, None));
    assert!(weights.encoding("gone").is_none() && weights.original_name("gone").is_none());
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let opened = Arc::new(Weights::open(std::slice::from_ref(&path)).unwrap());
        let opened = opened.scope(dtype, &Device::Cpu).unwrap();
        for (number, (name, shape)) in
            [("half", vec![2]), ("brain", vec![1, 2]), ("full", vec![2, 1])].into_iter().enumerate()
        {
            let tensor = opened.get(shape, name).unwrap();
            assert_eq!(tensor.dtype(), dtype);
            let wide = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            assert_eq!(wide.to_vec1::<f32>().unwrap(), [1., -2.], "{name}");
            let held = (number as u64 + 1) * 2 * dtype.size_in_bytes() as u64;
            assert_eq!(opened.handed_out(), held);
        }
    }
}

#[test]
fn three_in_one_that_are_not_three_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let name = "visual.transformer.0.attn.to_qkv.bias";
    let header = |rows: usize| {
        let class = r#""visual.cls_embedding":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        let end = 1 + rows;
        format!(
            r#"{{{class},"{name}":{{"dtype":"U8","shape":[{rows}],"data_offsets":[1,{end}]}}}}"#
        )
    };
    let said = refusal(&write(&folder, "four.safetensors", &header(4), &[0; 5]));
    assert!(said.contains(name) && said.contains("[4]") && said.contains("three parts"), "{said}");
    let path = write(&folder, "six.safetensors", &header(6), &[9, 1, 2, 3, 4, 5, 6]);
    let weights = Weights::open(&[path]).unwrap();
    for (letter, expected) in [("q", [1u8, 2]), ("k", [3, 4]), ("v", [5, 6])] {
        let third = format!("vision_model.encoder.layers.0.self_attn.{letter}_proj.bias");
        assert_eq!((weights.bytes(&third), weights.shape(&third)), (Some(2), Some(&[2][..])));
        let tensor = weights.tensor(&third, &Device::Cpu).unwrap();
        assert_eq!(tensor.to_vec1::<u8>().unwrap(), expected);
    }
}

#[test]
fn an_index_names_its_shards_and_what_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, "{").unwrap();
    assert!(refusal(&index).contains("index of shards cannot be read"));
    fs::write(&index, r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#).unwrap();
    let two = TWO_BYTES.replace("\"a\"", "\"b\"");
    write(&folder, "one.safetensors", TWO_BYTES, &[1, 2]);
    let error = Weights::open(std::slice::from_ref(&index)).err().unwrap().to_string();
    assert!(error.contains("two.safetensors"), "{error}");
    write(&folder, "two.safetensors", &two, &[3, 4]);
    let weights = Weights::open(std::slice::from_ref(&index)).unwrap();
    let b = weights.tensor("b", &Device::Cpu).unwrap();
    assert_eq!((weights.names(), b.to_vec1::<u8>().unwrap()), (vec!["a", "b"], vec![3, 4]));
    fs::write(&index, r#"{"weight_map":{"a":"one.safetensors","c":"two.safetensors"}}"#).unwrap();
    let said = Weights::open(&[index]).err().unwrap().to_string();
    let facts = ["two.safetensors", "`c` should be here", "model.safetensors.index.json"];
    assert!(facts.iter().all(|fact| said.contains(fact)), "{said}");
}

#[test]
fn a_tensor_that_does_not_fit_or_is_not_there_is_said_with_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let other = TWO_BYTES.replace("\"a\"", "\"b\"");
    let paths = [
        write(&folder, "one.safetensors", TWO_BYTES, &[1, 2]),
        write(&folder, "two.safetensors", &other, &[3, 4]),
    ];
    let weights = Weights::open(&paths).unwrap();
    let said = weights.tensor("c", &Device::Cpu).unwrap_err().to_string();
    for fact in ["one.safetensors", "two.safetensors", "`c` is missing"] {
        assert!(said.contains(fact), "{said}");
    }
    let opened = Arc::new(weights).scope(DType::F32, &Device::Cpu).unwrap();
    assert!(opened.contains_tensor("b") && !opened.contains_tensor("c"));
    let error = opened.get(3, "b").unwrap_err();
    let Error::WrongShape { origin, name, expected, found } = error else { panic!("{error}") };
    assert!(origin.ends_with("two.safetensors"), "{origin}");
    assert_eq!((name.as_str(), expected, found), ("b", vec![3], vec![2]));
    assert_eq!(opened.handed_out(), 0);
}

#[test]
fn a_file_that_was_written_to_is_not_loaded_by_its_old_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "one.safetensors", TWO_BYTES, &[1, 2]);
    let whole = fs::read(&path).unwrap();
    let weights = Arc::new(Weights::open(std::slice::from_ref(&path)).unwrap());
    let refused = |bytes: &[u8], difference: &str| {
        fs::write(&path, bytes).unwrap();
        assert_eq!((weights.names(), weights.bytes("a")), (vec!["a"], Some(2)));
        let error = weights.scope(DType::U8, &Device::Cpu).err().unwrap();
        let said = error.to_string();
        assert!(matches!(error, Error::WeightFile(_)), "{said}");
        assert!(said.contains("one.safetensors") && said.contains(difference), "{said}");
    };
    let (length, head) = (whole.len(), whole.len() - 2);
    refused(&whole[..length - 1], &format!("{length} bytes then, {} now", length - 1));
    refused(&[&whole[..], &[3]].concat(), &format!("{} now", length + 1));
    refused(&[], "0 now");
    // Another header of the same length, and another length of the header.
    refused(&[&whole[..8], TWO_BYTES.replace("U8", "I8").as_bytes(), &[1, 2]].concat(), "header");
    refused(&[&(head as u64 - 9).to_le_bytes(), &whole[8..]].concat(), "header");
    // Other numbers under the same header are a model of the same shape.
    fs::write(&path, [&whole[..head], &[7, 8]].concat()).unwrap();
    let opened = weights.scope(DType::U8, &Device::Cpu).unwrap();
    assert_eq!(opened.get(2, "a").unwrap().to_vec1::<u8>().unwrap(), [7, 8]);
}
