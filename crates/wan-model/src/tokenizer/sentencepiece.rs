//! A SentencePiece model (`spiece.model`) as a tokenizer.
//!
//! Message and field numbers: google/sentencepiece, `src/sentencepiece_model.proto`. What is made
//! of it is what transformers' `convert_slow_tokenizer.py` (`SpmConverter`, `T5Converter`) makes,
//! that is `tokenizer.json` as published.
//!
//! UMT5's two files have the same pieces, and one reader splits words by them: ids are equal for
//! the 30 prompts of the tests, special tokens that are written in them too. Scores differ in the
//! last of 16 digits, so splits that score alike could be chosen differently; none was found in
//! 4,000 more prompts. Google's own program also has pieces for single bytes of unknown characters,
//! which `tokenizer.json` takes for one unknown token, as this does.

use std::collections::HashSet;

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::tokenizer::protobuf::{Field, Fields};

/// Most pieces. UMT5 has 256,000.
const PIECES_MAX: usize = 1 << 20;

/// Tokens `<extra_id_0>` and on that T5 has after the pieces, the last one first. UMT5's
/// `tokenizer_config.json` has `extra_ids` 300.
const EXTRA_IDS: usize = 300;

/// `TrainerSpec.ModelType.UNIGRAM`.
const UNIGRAM: u64 = 1;

/// `SentencePiece.Type`.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;

/// What ends a prompt.
const END: &str = "</s>";

/// What a model file says that is needed.
struct Model {
    /// Pieces with their scores.
    pieces: Vec<(String, f64)>,
    /// Places of the unknown piece and of the control pieces among them.
    unknown: Option<usize>,
    control: Vec<usize>,
    /// A table of replaced characters, for `Precompiled`; UMT5 has none.
    character_map: Vec<u8>,
    /// Whether a prompt begins with a space that it does not have.
    prefix: bool,
}

/// Whether a file is no JSON and may be a model.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    // The first piece: field 1, a message.
    bytes.first() == Some(&0x0a) && bytes.trim_ascii_start().first() != Some(&b'{')
}

/// Longest piece, in bytes; known before the foreign reader makes a tree of it.
pub(super) struct Parsed {
    model: Model,
    pub(super) longest: usize,
}

/// Reads a model file.
///
/// # Errors
/// With the reason, if it is none, or is of another kind than T5's.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut model = Model {
        pieces: Vec::new(),
        unknown: None,
        control: Vec::new(),
        character_map: Vec::new(),
        prefix: true,
    };
    let mut seen = HashSet::new();
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(piece)) => {
                let (text, score, kind) = read_piece(piece)?;
                let place = model.pieces.len();
                if place >= PIECES_MAX {
                    return Err(format!("more than {PIECES_MAX} pieces"));
                }
                if !seen.insert(text) {
                    return Err(format!("piece {text:?} is there twice"));
                }
                if kind == UNKNOWN && model.unknown.replace(place).is_some() {
                    return Err("two pieces for what is unknown".to_owned());
                }
                if kind == CONTROL {
                    model.control.push(place);
                }
                model.pieces.push((text.to_owned(), score));
            }
            (2, Field::Bytes(trainer)) => check_trainer(trainer)?,
            (3, Field::Bytes(normaliser)) => read_normaliser(normaliser, &mut model)?,
            _ => {}
        }
    }
    let longest = model.pieces.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
    Ok(Parsed { model, longest })
}

/// Text, score and kind of a piece.
fn read_piece(piece: &[u8]) -> Result<(&str, f64, u64), String> {
    let (mut text, mut score, mut kind) = (&b""[..], 0.0, 1);
    for field in Fields::of(piece) {
        match field? {
            (1, Field::Bytes(bytes)) => text = bytes,
            (2, Field::Float(number)) => score = number,
            (3, Field::Number(number)) => kind = number,
            _ => {}
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| "a piece that is no UTF-8".to_owned())?;
    if text.is_empty() || !score.is_finite() {
        return Err(format!("piece {text:?} with score {score}"));
    }
    Ok((text, f64::from(score), kind))
}

fn check_trainer(trainer: &[u8]) -> Result<(), String> {
    for field in Fields::of(trainer) {
        match field? {
            (3, Field::Number(kind)) if kind != UNIGRAM => {
                return Err(format!("a SentencePiece model of type {kind}, 1 (Unigram) is read"));
            }
            (24, Field::Number(1..)) => {
                return Err("a SentencePiece model with white space after its words".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_normaliser(normaliser: &[u8], model: &mut Model) -> Result<(), String> {
    for field in Fields::of(normaliser) {
        match field? {
            (2, Field::Bytes(map)) => model.character_map = map.to_vec(),
            (3, Field::Number(prefix)) => model.prefix = prefix != 0,
            _ => {}
        }
    }
    Ok(())
}

impl Parsed {
    /// Makes a tokenizer of it. The `tokenizers` crate does that: call it behind a wall.
    ///
    /// # Errors
    /// In the crate's words, if it takes none of it.
    pub(super) fn tokenizer(self) -> tokenizers::Result<Tokenizer> {
        let Model { mut pieces, unknown, control, character_map, prefix } = self.model;
        let unknown = unknown.ok_or("a SentencePiece model without a piece for what is unknown")?;
        let named = |place: usize| pieces[place].0.clone();
        let end = control.iter().find(|place| pieces[**place].0 == END);
        let end = u32::try_from(*end.ok_or("a SentencePiece model without </s>")?)?;
        let mut special: Vec<String> = control.iter().map(|place| named(*place)).collect();
        special.push(named(unknown));
        if !pieces.iter().any(|(text, _)| text == "<extra_id_0>") {
            let extra = (0..EXTRA_IDS).rev().map(|number| format!("<extra_id_{number}>"));
            special.extend(extra.clone());
            pieces.extend(extra.map(|text| (text, 0.0)));
        }
        // As `tokenizer.json` has it, without the pieces of single bytes.
        let mut tokenizer = Tokenizer::new(Unigram::from(pieces, Some(unknown), false)?);
        let mut normalisers = Vec::new();
        if !character_map.is_empty() {
            normalisers.push(NormalizerWrapper::from(Precompiled::from(&character_map)?));
        }
        let spaces = ReplacePattern::Regex(" {2,}".to_owned());
        normalisers.push(NormalizerWrapper::from(Replace::new(spaces, " ")?));
        tokenizer.with_normalizer(Some(Sequence::new(normalisers)))?;
        let scheme = if prefix { PrependScheme::Always } else { PrependScheme::Never };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, true)));
        let processor = TemplateProcessing::builder()
            .try_single(format!("$A {END}"))?
            .try_pair(format!("$A {END} $B {END}"))?
            .special_tokens(vec![(END, end)])
            .build()?;
        tokenizer.with_post_processor(Some(processor));
        let special: Vec<_> =
            special.into_iter().map(|text| AddedToken::from(text, true)).collect();
        tokenizer.add_special_tokens(special)?;
        Ok(tokenizer)
    }
}

#[cfg(test)]
mod tests;
