use super::*;

fn tokenizer() -> PromptTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let special = |id: u32, content: &str| {
        serde_json::json!({
            "id": id, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "decoder": null,
        "added_tokens": [special(0, "<pad>"), special(1, "</s>"), special(2, "<unk>")],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "</s>", "type_id": 0 } },
            ],
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 0 } },
            ],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } },
        },
        "model": {
            "type": "WordLevel", "unk_token": "<unk>",
            "vocab": { "<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "ball": 4 },
        },
    });
    std::fs::write(&path, json.to_string()).unwrap();
    PromptTokenizer::from_file(&path).unwrap()
}

#[test]
fn ids_end_and_are_padded() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("  Red\n ball ", 5).unwrap();
    assert_eq!((ids.ids, ids.mask), (vec![3, 4, 1, 0, 0], vec![1, 1, 1, 0, 0]));
    assert_eq!(tokenizer.encode("", 2).unwrap().ids, [1, 0]);
    assert_eq!(tokenizer.encode("red ball red ball", 3).unwrap().ids, [3, 4, 1]);
}

#[test]
fn unknown_words_are_told_and_known_ones_listed() {
    let tokenizer = tokenizer();
    let unknown = tokenizer.unknown_words("a red Balloon a ball");
    assert_eq!(unknown, ["a", "Balloon"]);
    assert_eq!(tokenizer.known_words(), ["ball", "red"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = PromptTokenizer::from_file(Path::new("no/such.json")).err().unwrap();
    assert!(error.to_string().contains("no/such.json"));
}

#[test]
fn what_is_cut_is_told() {
    let tokenizer = tokenizer();
    let cut = |prompt, length| tokenizer.encode(prompt, length).unwrap().cut;
    assert_eq!(cut(" Red  ball\nred&amp; BALL ", 3).as_deref(), Some("red& BALL"));
    assert_eq!(cut("red ball", 3), None);
    assert_eq!(cut("red ball", 2).as_deref(), Some("ball"));
    assert_eq!(cut("rÉd Éal red", 1).as_deref(), Some("rÉd Éal red"));
    assert_eq!(cut("red", 0).as_deref(), Some("red"));
    assert_eq!(cut("", 0), None);
}

#[test]
fn prompts_are_cleaned_before_they_are_encoded() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode("ｒｅｄ　ｂａｌｌ", 3).unwrap().ids, [3, 4, 1]);
    assert_eq!(tokenizer.unknown_words("ｒｅｄ “red"), ["\"red"]);
}
