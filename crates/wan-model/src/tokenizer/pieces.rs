//! The longest piece of a vocabulary, which is known before the foreign reader makes a tree of it, as
//! deep as that piece is long, and walks it by recursion.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of the longest piece of a `tokenizer.json`; 0 where it has no vocabulary, or is none.
pub(super) fn longest(json: &[u8]) -> usize {
    // What is no JSON is refused by the reader, in its own words.
    let file = serde_json::from_slice::<TokenizerFile>(json);
    file.map_or(0, |file| file.model.map_or(0, |model| model.vocab.map_or(0, |longest| longest.0)))
}

#[derive(Deserialize)]
struct TokenizerFile {
    model: Option<ModelPart>,
}

#[derive(Deserialize)]
struct ModelPart {
    vocab: Option<Longest>,
}

/// Length of the longest piece, in bytes.
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Pieces)
    }
}

struct Pieces;

/// A piece; borrowed where it has no escapes.
#[derive(Deserialize)]
struct Piece<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Pieces {
    type Value = Longest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pieces with their scores, or with their ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some((piece, _)) = pieces.next_element::<(Piece<'de>, IgnoredAny)>()? {
            longest = longest.max(piece.0.len());
        }
        Ok(Longest(longest))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pieces: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some((piece, _)) = pieces.next_entry::<Piece<'de>, IgnoredAny>()? {
            longest = longest.max(piece.0.len());
        }
        Ok(Longest(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_piece_of_either_form_is_found() {
        let of = |vocab: &str| longest(format!(r#"{{"model":{{"vocab":{vocab}}}}}"#).as_bytes());
        assert_eq!(of(r#"[["ab", -1.5], ["a\u0062c", 0], ["", 1]]"#), 3);
        assert_eq!(of(r#"{"a": 0, "abcd": 1}"#), 4);
        assert_eq!([of("null"), of("7"), longest(b"{}"), longest(b"no")], [0; 4]);
    }
}
