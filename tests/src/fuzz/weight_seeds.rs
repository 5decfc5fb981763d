//! Valid weight files of formats that the project reads: by its own writers, and of its cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use wan_tests::checkout::checkout;
use wan_tests::weight_cases::OWN;
use wan_weight_files::{Encoding, GgufWriter, SafetensorsWriter, TensorInfo};

use crate::zip::{self, Entry};

/// Formats that a GGUF file is written in, beside blocks.
const FLOATS: [Encoding; 3] = [Encoding::F32, Encoding::F16, Encoding::BF16];

/// Writes seeds into `valid`, and what has to be refused into `refused`; both have a folder for
/// each kind.
pub(crate) fn write(valid: &Path, refused: &Path) -> Result<()> {
    write_gguf(&valid.join("gguf"))?;
    fs::write(valid.join("torch/small"), small_torch())?;
    write_scaled(&valid.join("fp8"))?;
    fs::write(valid.join("spiece/small"), spiece())?;
    for case in fs::read_dir(checkout().join(OWN))? {
        let case = case?;
        if case.file_type()?.is_dir() {
            copy_case(&case.path(), valid, refused)?;
        }
    }
    Ok(())
}

/// Copies the files of a case to the kinds that read them.
fn copy_case(case: &Path, valid: &Path, refused: &Path) -> Result<()> {
    let said: Value = serde_json::from_slice(&fs::read(case.join("case.json"))?)?;
    let folder = if said["must"] == json!("refused") { refused } else { valid };
    let name = case.file_name().unwrap_or_default();
    let text = name.to_string_lossy();
    let starts = [("gguf-", "gguf"), ("pth-", "torch"), ("fp8-", "fp8"), ("refuse-nv", "fp8")];
    if let Some((_, kind)) = starts.iter().find(|(start, _)| text.starts_with(start)) {
        let model = said["model"][0].as_str().unwrap_or_default();
        fs::copy(case.join(model), folder.join(kind).join(name))?;
    }
    for (number, lora) in said["loras"].as_array().into_iter().flatten().enumerate() {
        let file: PathBuf = case.join(lora["file"].as_str().unwrap_or_default());
        fs::copy(file, folder.join("lora").join(format!("{text}-{number}")))?;
    }
    Ok(())
}

fn write_gguf(folder: &Path) -> Result<()> {
    let mut tensors = vec![TensorInfo {
        name: "patch_embedding.weight".into(),
        shape: vec![4, 2, 1, 2, 2],
        encoding: Encoding::F32,
    }];
    tensors.extend(FLOATS.iter().chain(&Encoding::BLOCKS).enumerate().map(|(number, encoding)| {
        TensorInfo {
            name: format!("blocks.{number}.ffn.0.weight"),
            shape: vec![2, 256],
            encoding: *encoding,
        }
    }));
    let words = [
        ("general.architecture", "wan"),
        ("general.file_type", "1"),
        ("general.quantization_version", "2"),
        ("comfy.gguf.orig_shape.patch_embedding.weight", "4,2,1,2,2"),
    ];
    let metadata: BTreeMap<String, String> =
        words.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let mut writer = GgufWriter::new(Vec::new(), &tensors, &metadata)?;
    for tensor in &tensors {
        writer.put(&vec![60; usize::try_from(tensor.bytes())?])?;
    }
    fs::write(folder.join("all"), writer.finish()?)?;
    Ok(())
}

/// 8-bit matrices with factors, and the two documents that say so.
fn write_scaled(folder: &Path) -> Result<()> {
    let document = json!({ "format": "float8_e4m3fn", "full_precision_matrix_mult": true });
    let document = document.to_string();
    let layers = json!({ "format_version": "1.0", "layers": {
        "blocks.0.self_attn.q": { "format": "float8_e4m3fn" } } });
    let tensor = |name: &str, shape: &[usize], encoding| TensorInfo {
        name: format!("blocks.0.self_attn.q.{name}"),
        shape: shape.into(),
        encoding,
    };
    for (name, scale) in [("one", vec![]), ("rows", vec![4, 1]), ("runs", vec![4, 2, 1])] {
        let tensors = [
            tensor("weight_scale", &scale, Encoding::F32),
            tensor("weight", &[4, 4], Encoding::F8E4M3),
            tensor("comfy_quant", &[document.len()], Encoding::U8),
        ];
        let numbers = 1.5f32.to_le_bytes().repeat(scale.iter().product());
        let metadata = [("_quantization_metadata".to_owned(), layers.to_string())].into();
        let mut writer = SafetensorsWriter::new(Vec::new(), &tensors, &metadata)?;
        writer.put(&numbers)?;
        writer.put(&[0x38; 16])?;
        writer.put(document.as_bytes())?;
        fs::write(folder.join(name), writer.finish()?)?;
    }
    Ok(())
}

/// Two tensors of one storage, as `torch.save` writes them.
fn small_torch() -> Vec<u8> {
    let text = |text: &str| {
        let length = u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
        [b"X", &length[..], text.as_bytes()].concat()
    };
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)Rq\0(".to_vec();
    for (number, name) in ["blocks.0.self_attn.q.weight", "head.head.weight"].iter().enumerate() {
        let offset = [b'K', if number == 0 { 0 } else { 4 }];
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec()].concat());
        pickle.extend([text("0"), text("cpu"), b"K\x10tQ".to_vec(), offset.to_vec()].concat());
        pickle.extend(b"K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    let numbers = (0u8..16).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    let entries = [
        ("data.pkl", pickle),
        ("byteorder", b"little".to_vec()),
        ("data/0", numbers),
        ("version", b"3\n".to_vec()),
    ];
    let entry = |(name, bytes)| Entry { name: format!("archive/{name}"), bytes };
    zip::written(&entries.map(entry))
}

/// A SentencePiece model of a few pieces.
fn spiece() -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(0x7f);
    let message = |field: u8, bytes: &[u8]| [&[field << 3 | 2, length(bytes)], bytes].concat();
    let piece = |(text, score, kind): (&str, f32, u8)| {
        let score = [&[0x15], &score.to_le_bytes()[..]].concat();
        message(1, &[message(1, text.as_bytes()), score, vec![0x18, kind]].concat())
    };
    let pieces = [
        ("<pad>", 0., 3),
        ("</s>", 0., 3),
        ("<unk>", 0., 2),
        ("\u{2581}a", -2., 1),
        ("\u{2581}", -3., 1),
        ("red", -4., 1),
        ("ball", -4.5, 1),
        ("l", -6.5, 1),
    ];
    let trainer = message(2, &[0x18, 1]);
    let normaliser = message(3, &[0x18, 1, 0x20, 1]);
    [pieces.map(piece).concat(), trainer, normaliser].concat()
}
