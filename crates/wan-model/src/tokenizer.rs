//! Converts a prompt to token ids.

mod pieces;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;
use wan_border::files::{self, Content};

use crate::error::{Error, Result};

/// Largest vocabulary that [`PromptTokenizer::known_words`] lists.
const LISTED_MAX: usize = 1000;

/// Longest piece of a vocabulary, in bytes. UMT5's has fewer than 100.
const PIECE_MAX: usize = 4096;

/// What messages call the foreign reader.
const READER: &str = "tokenizer";

/// A tokenizer read from `tokenizer.json`.
pub struct PromptTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    unknown: Option<u32>,
}

/// Ids of one prompt, padded with 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Token ids, `max_len` of them.
    pub ids: Vec<u32>,
    /// 1 for tokens, 0 for padding.
    pub mask: Vec<u32>,
}

impl TokenIds {
    /// Ids and mask as `[1,T]` tensors, u32.
    pub fn tensors(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let row = |numbers: &[u32]| Tensor::new(numbers, device)?.unsqueeze(0);
        Ok((row(&self.ids)?, row(&self.mask)?))
    }
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::MalformedFile`] if it is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = files::bytes(path, Content::Tokenizer)?;
        let malformed = |said: String| Error::MalformedFile { path: path.into(), reason: said };
        let longest = pieces::longest(&bytes);
        if longest > PIECE_MAX {
            return Err(malformed(format!(
                "a piece of its vocabulary has {longest} bytes, at most {PIECE_MAX} are taken"
            )));
        }
        let mut tokenizer = files::foreign(path, READER, || Tokenizer::from_bytes(&bytes))?
            .map_err(|error| malformed(error.to_string()))?;
        // Prompts are cut and padded here; what the file says of it could be any length.
        let plain = tokenizer.with_padding(None).with_truncation(None);
        plain.map_err(|error| malformed(error.to_string()))?;
        let unknown = tokenizer.token_to_id("<unk>");
        Ok(Self { path: path.to_owned(), tokenizer, unknown })
    }

    /// Ids of a prompt with its end token, padded to `max_len`. White space is collapsed first, as
    /// in diffusers' `prompt_clean`. A prompt that is too long loses words at its end but keeps the
    /// end token.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] if the tokenizer cannot encode the prompt.
    pub fn encode(&self, prompt: &str, max_len: usize) -> Result<TokenIds> {
        let prompt = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut ids = self.ids(&prompt, true)?;
        let words = self.ids(&prompt, false)?.len();
        if ids.len() > max_len {
            // Special tokens are at the end only: T5 has no start token.
            let special = ids.split_off(words);
            ids.truncate(max_len.saturating_sub(special.len()));
            ids.extend(special);
            ids.truncate(max_len);
        }
        let mut mask = vec![1; ids.len()];
        ids.resize(max_len, 0);
        mask.resize(max_len, 0);
        Ok(TokenIds { ids, mask })
    }

    /// Pieces of its vocabulary, special ones included.
    pub fn pieces(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Words of a prompt that encode to the unknown token, in order, each once.
    pub fn unknown_words(&self, prompt: &str) -> Vec<String> {
        let mut unknown: Vec<String> = Vec::new();
        for word in prompt.split_whitespace() {
            // A word that cannot be encoded counts as unknown.
            let known = self
                .ids(word, false)
                .is_ok_and(|ids| ids.iter().all(|id| Some(*id) != self.unknown));
            if !known && !unknown.iter().any(|seen| seen == word) {
                unknown.push(word.to_owned());
            }
        }
        unknown
    }

    /// The words of a small vocabulary, sorted, without special tokens; empty for a large
    /// vocabulary.
    pub fn known_words(&self) -> Vec<String> {
        if self.tokenizer.get_vocab_size(true) > LISTED_MAX {
            return Vec::new();
        }
        let special = self.tokenizer.get_added_tokens_decoder();
        let vocabulary = self.tokenizer.get_vocab(true).into_iter();
        let mut words: Vec<_> =
            vocabulary.filter(|(_, id)| !special.contains_key(id)).map(|(word, _)| word).collect();
        words.sort_unstable();
        words
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encode = || self.tokenizer.encode(text, special);
        let encoding = files::foreign(&self.path, READER, encode)?;
        let encoding = encoding.map_err(|e| Error::MalformedFile {
            path: self.path.clone(),
            reason: format!("cannot encode {text:?}: {e}"),
        })?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
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
}
