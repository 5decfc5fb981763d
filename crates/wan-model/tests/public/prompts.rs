//! Prompts to ids: cut, padded, and what of them is unknown.

use std::fs;
use std::path::PathBuf;

use candle_core::Device;
use serde_json::{Value, json};
use tempfile::TempDir;
use wan_model::tokenizer::PromptTokenizer;

/// A tokenizer of `words` words, `w0` on, whose ids begin at 3; 0 pads, 1 ends, 2 is unknown.
fn tokenizer(words: usize, unknown: bool) -> (TempDir, PromptTokenizer) {
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let mut vocab = serde_json::Map::new();
    let [pad, end, none] = ["<pad>", "</s>", if unknown { "<unk>" } else { "<none>" }];
    for (id, word) in [pad, end, none].into_iter().enumerate() {
        vocab.insert(word.to_owned(), json!(id));
    }
    vocab.extend((0..words).map(|word| (format!("w{word}"), json!(word + 3))));
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    let file: Value = json!({
        "version": "1.0", "truncation": null, "padding": null, "decoder": null,
        "added_tokens": [special(0, pad), special(1, end), special(2, none)],
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence("A"), { "SpecialToken": { "id": end, "type_id": 0 } }],
            "pair": [sequence("A"), sequence("B")],
            "special_tokens": { end: { "id": end, "ids": [1], "tokens": [end] } },
        },
        "model": { "type": "WordLevel", "unk_token": none, "vocab": vocab },
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, file.to_string()).unwrap();
    let tokenizer = PromptTokenizer::from_file(&path).unwrap();
    (folder, tokenizer)
}

#[test]
fn a_prompt_that_is_too_long_keeps_its_start_and_its_end_token() {
    let (_folder, tokenizer) = tokenizer(9, true);
    let prompt = "w0 w1  w2\tw3\n w4";
    for (length, ids, tokens) in [
        (8, vec![3, 4, 5, 6, 7, 1, 0, 0], 6),
        (6, vec![3, 4, 5, 6, 7, 1], 6),
        (5, vec![3, 4, 5, 6, 1], 5),
        (2, vec![3, 1], 2),
        (1, vec![1], 1),
        (0, vec![], 0),
    ] {
        let encoded = tokenizer.encode(prompt, length).unwrap();
        assert_eq!(encoded.ids, ids);
        let mask: Vec<u32> = (0..length).map(|place| u32::from(place < tokens)).collect();
        assert_eq!(encoded.mask, mask);
    }
    let (ids, mask) = tokenizer.encode(prompt, 8).unwrap().tensors(&Device::Cpu).unwrap();
    assert_eq!((ids.dims(), mask.dims()), (&[1, 8][..], &[1, 8][..]));
    assert_eq!(ids.to_vec2::<u32>().unwrap(), [[3, 4, 5, 6, 7, 1, 0, 0]]);
    assert_eq!(mask.to_vec2::<u32>().unwrap(), [[1, 1, 1, 1, 1, 1, 0, 0]]);
}

#[test]
fn unknown_words_come_once_and_in_order() {
    let (_folder, tokenizer) = tokenizer(9, true);
    assert_eq!(tokenizer.unknown_words("w1 zebra w8 ape zebra w9"), ["zebra", "ape", "w9"]);
    assert!(tokenizer.unknown_words("w1 w2").is_empty() && tokenizer.unknown_words(" ").is_empty());
}

#[test]
fn a_small_vocabulary_is_listed_and_a_large_one_is_not() {
    let listed = |words| tokenizer(words, true).1.known_words();
    assert_eq!(listed(3), ["w0", "w1", "w2"]);
    // With the three that are special: 1000, then 1001.
    assert_eq!(listed(997).len(), 997);
    assert!(listed(998).is_empty());
}

#[test]
fn a_file_that_is_no_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("tokenizer.json");
    fs::write(&path, "{}").unwrap();
    let error = PromptTokenizer::from_file(&path).err().unwrap();
    assert!(matches!(error, wan_model::Error::MalformedFile { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}
