use std::path::Path;

use crate::tokenizer::{PromptTokenizer, published};

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn message(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], varint(bytes.len()).as_slice(), bytes].concat()
}

fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
    let fields = [
        message(1, text.as_bytes()),
        [&[0x15], &score.to_le_bytes()[..]].concat(),
        vec![0x18, kind],
    ];
    message(1, &fields.concat())
}

/// `<pad>`, `</s>`, `<unk>`, and three pieces.
fn pieces() -> Vec<Vec<u8>> {
    vec![
        piece("<pad>", 0.0, 3),
        piece("</s>", 0.0, 3),
        piece("<unk>", 0.0, 2),
        piece("▁red", -1.0, 1),
        piece("▁", -2.0, 1),
        piece("ball", -3.0, 1),
    ]
}

fn read(bytes: &[u8]) -> crate::error::Result<PromptTokenizer> {
    PromptTokenizer::from_bytes(Path::new("spiece.model"), bytes)
}

fn refusal(bytes: &[u8]) -> String {
    let said = read(bytes).err().unwrap().to_string();
    assert!(said.contains("spiece.model"), "{said}");
    said
}

#[test]
fn pieces_become_ids() {
    let tokenizer = read(&pieces().concat()).unwrap();
    let ids = |prompt| tokenizer.encode(prompt, 8).unwrap().ids;
    assert_eq!(ids("red  ball"), [3, 4, 5, 1, 0, 0, 0, 0]);
    assert_eq!(ids("redball x"), [3, 5, 4, 2, 1, 0, 0, 0]);
    assert_eq!(ids("<extra_id_299> <extra_id_0>")[..1], [6]);
    assert!(ids("<extra_id_0>").starts_with(&[305, 1]));
    assert!(ids("red</s>").starts_with(&[3, 1, 1]));
    assert_eq!(ids(""), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(tokenizer.unknown_words("red zebra"), ["zebra"]);
}

#[test]
fn a_file_is_told_by_its_first_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, pieces().concat()).unwrap();
    assert_eq!(PromptTokenizer::from_file(&path).unwrap().encode("red", 2).unwrap().ids, [3, 1]);
    // A JSON file may begin with a line feed, as a model does.
    assert!(!super::recognises(b"\n {}") && super::recognises(&pieces().concat()));
}

#[test]
fn the_normaliser_decides_on_the_space_before_the_first_word() {
    let bytes = [pieces().concat(), message(3, &[0x18, 0])].concat();
    assert_eq!(read(&bytes).unwrap().encode("ball red", 4).unwrap().ids, [5, 3, 1, 0]);
}

#[test]
fn models_of_another_kind_are_refused() {
    let with = |more: Vec<u8>| refusal(&[pieces().concat(), more].concat());
    assert!(with(message(2, &[0x18, 2])).contains("type 2"));
    assert!(with(message(2, &[0xc0, 1, 1])).contains("after its words"));
    assert!(with(piece("ball", 0.0, 1)).contains("\"ball\" is there twice"));
    assert!(with(piece("x", f32::NAN, 1)).contains("score NaN"));
    assert!(with(piece("x", 0.0, 2)).contains("two pieces for what is unknown"));
    assert!(with(piece(&"x".repeat(4097), 0.0, 1)).contains("4097 bytes"));
    assert!(with(message(1, b"\x0a\x01\xff")).contains("no UTF-8"));
    assert!(with(message(1, b"")).contains("piece \"\""));
    // No table of characters, and a table that is none.
    assert!(!with(message(3, &message(2, b"\x08\0\0\0abc"))).is_empty());
    assert!(refusal(&pieces()[3..].concat()).contains("unknown"));
    assert!(refusal(&[pieces()[0].clone(), pieces()[2].clone()].concat()).contains("</s>"));
    let whole = pieces().concat();
    for length in 1..whole.len() {
        // Cut between two pieces, it may be whole.
        if let Err(error) = read(&whole[..length]) {
            assert!(error.to_string().contains("spiece.model"));
        }
    }
    assert!(refusal(&whole[..whole.len() - 1]).contains("no protobuf field"));
}

/// With UMT5's own files, which are too large to lie here: `tokenizer.json`, whose path the
/// variable has, and `spiece.model` beside it.
#[test]
fn published_prompts_have_their_ids() {
    #[expect(clippy::disallowed_methods, reason = "names files that this project does not carry")]
    let Some(path) = std::env::var_os("WAN_UMT5_TOKENIZER") else {
        println!("skipped: WAN_UMT5_TOKENIZER is not set to the path of UMT5's tokenizer.json");
        return;
    };
    let path = Path::new(&path);
    for path in [path.to_owned(), path.with_file_name("spiece.model")] {
        let tokenizer = PromptTokenizer::from_file(&path).unwrap();
        let mut differing = Vec::new();
        for row in published::rows() {
            let mut ids = tokenizer.encode(&row.prompt, 512).unwrap().ids;
            ids.truncate(row.ids.len());
            if ids != row.ids {
                differing.push(row.prompt);
            }
        }
        // The one that is not cleaned as ftfy does it.
        assert_eq!(differing, ["it’s Marvelâ€™s best"], "{}", path.display());
    }
}
