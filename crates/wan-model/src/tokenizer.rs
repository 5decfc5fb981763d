//! Converts a prompt to token ids.

mod cleaning;
mod pieces;
mod protobuf;
#[cfg(test)]
mod published;
mod sentencepiece;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
pub use cleaning::clean;
use tokenizers::{Encoding, Tokenizer};
use wan_border::files::{self, Content};

use crate::error::{Error, Result};

/// Largest vocabulary that [`PromptTokenizer::known_words`] lists.
const LISTED_MAX: usize = 1000;

/// Longest piece of a vocabulary, in bytes. UMT5's has fewer than 100.
const PIECE_MAX: usize = 4096;

/// What messages call the foreign reader.
const READER: &str = "tokenizer";

/// A tokenizer read from `tokenizer.json` or `spiece.model`.
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
    /// The end of the cleaned prompt, for which there was no room.
    pub cut: Option<String>,
}

impl TokenIds {
    /// Ids and mask as `[1,T]` tensors, u32.
    pub fn tensors(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        let row = |numbers: &[u32]| Tensor::new(numbers, device)?.unsqueeze(0);
        Ok((row(&self.ids)?, row(&self.mask)?))
    }
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`, or a SentencePiece model (`spiece.model`): which it is, the
    /// first bytes tell. Both of UMT5 give the same ids.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::MalformedFile`] if it is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_bytes(path, &files::bytes(path, Content::Tokenizer)?)
    }

    /// As [`from_file`](Self::from_file), with the bytes at hand: ComfyUI's text encoders have a
    /// model in tensor `spiece_model`. `path` is the file that messages name.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] if it is not a tokenizer.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let malformed = |said: String| Error::MalformedFile { path: path.into(), reason: said };
        let check = |longest: usize| {
            if longest > PIECE_MAX {
                return Err(malformed(format!(
                    "a piece of its vocabulary has {longest} bytes, at most {PIECE_MAX} are taken"
                )));
            }
            Ok(())
        };
        let read = if sentencepiece::recognises(bytes) {
            let model = sentencepiece::parse(bytes).map_err(malformed)?;
            check(model.longest)?;
            files::foreign(path, READER, || model.tokenizer())?
        } else {
            check(pieces::longest(bytes))?;
            files::foreign(path, READER, || Tokenizer::from_bytes(bytes))?
        };
        let mut tokenizer = read.map_err(|error| malformed(error.to_string()))?;
        // Prompts are cut and padded here; what the file says of it could be any length.
        let plain = tokenizer.with_padding(None).with_truncation(None);
        plain.map_err(|error| malformed(error.to_string()))?;
        let unknown = tokenizer.token_to_id("<unk>");
        Ok(Self { path: path.to_owned(), tokenizer, unknown })
    }

    /// Ids of a prompt with its end token, padded to `max_len`. The prompt is [cleaned](clean)
    /// first. One that is too long loses words at its end, and the ids say which, but keeps the end
    /// token.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] if the tokenizer cannot encode the prompt.
    pub fn encode(&self, prompt: &str, max_len: usize) -> Result<TokenIds> {
        let prompt = clean(prompt);
        let encoding = self.encoding(&prompt, true)?;
        let words = self.encoding(&prompt, false)?.len();
        let mut ids = encoding.get_ids().to_vec();
        let mut cut = None;
        if ids.len() > max_len {
            // Special tokens are at the end only: T5 has no start token.
            let special = ids.split_off(words.min(ids.len()));
            let kept = max_len.saturating_sub(special.len());
            cut = encoding.get_offsets().get(kept).filter(|_| kept < words).map(|(start, _)| {
                // A token may begin within a character, at one of its bytes.
                prompt[prompt.floor_char_boundary(*start)..].trim_start().to_owned()
            });
            ids.truncate(kept);
            ids.extend(special);
            ids.truncate(max_len);
        }
        let mut mask = vec![1; ids.len()];
        ids.resize(max_len, 0);
        mask.resize(max_len, 0);
        Ok(TokenIds { ids, mask, cut })
    }

    /// Pieces of its vocabulary, special ones included.
    pub fn pieces(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Words of a prompt, cleaned, that encode to the unknown token, in order, each once.
    pub fn unknown_words(&self, prompt: &str) -> Vec<String> {
        let mut unknown: Vec<String> = Vec::new();
        for word in clean(prompt).split(' ').filter(|word| !word.is_empty()) {
            // A word that cannot be encoded counts as unknown.
            let known = self
                .encoding(word, false)
                .is_ok_and(|tokens| tokens.get_ids().iter().all(|id| Some(*id) != self.unknown));
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

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding> {
        let encode = || self.tokenizer.encode(text, special);
        let encoding = files::foreign(&self.path, READER, encode)?;
        encoding.map_err(|e| Error::MalformedFile {
            path: self.path.clone(),
            reason: format!("cannot encode {text:?}: {e}"),
        })
    }
}

#[cfg(test)]
mod tests;
