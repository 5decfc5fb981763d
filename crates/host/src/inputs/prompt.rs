//! Prompts to embeddings.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use wan_model::tokenizer::{PromptTokenizer, TokenIds};

use crate::cancel::Cancel;
use crate::checkpoint::kept;
use crate::checkpoint::loader::PartLoader;
use crate::checkpoint::tokenizer::TokenizerFile;
use crate::error::Result;
use crate::inputs::prompt_cache::PromptCache;
use crate::inputs::prompt_key::{EncoderKey, PromptKey};
use crate::request::memory::EncoderPlace;
use crate::request::precision::Format;

/// The part that encodes prompts.
const TEXT_ENCODER: &str = "text_encoder";

/// Tokenizer of a model, and its text encoder for as long as it encodes: it is the largest part
/// after the transformers, and of no use to them once the prompts are embeddings.
pub(crate) struct PromptEncoder {
    /// None where the model has none: whoever encodes nothing needs none.
    tokenizer: Option<PromptTokenizer>,
    length: usize,
    loader: Arc<PartLoader>,
    kept: KeptPrompts,
}

/// Embeddings on the disk, and by what those of this model are known.
struct KeptPrompts {
    /// None where those of this model are not kept.
    cache: PromptCache,
    /// SHA-256 of the tokenizer's file, where embeddings are kept.
    tokenizer: [u8; 32],
    encoder: OnceLock<EncoderKey>,
}

/// How a text encoder is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EncoderUse {
    /// Format of its products.
    pub(crate) dtype: Format,
    /// Where it computes.
    pub(crate) place: EncoderPlace,
    /// Layers that are read for their turn.
    pub(crate) streamed: usize,
}

/// Words that a model cannot have learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownWords {
    /// Words of the prompt that the vocabulary does not have.
    pub unknown: Vec<String>,
    /// Words that it has.
    pub known: Vec<String>,
}

impl PromptEncoder {
    /// Reads the tokenizer, if there is one. Embeddings are taken from `cache`, and kept there, where
    /// it keeps those of this model.
    ///
    /// # Errors
    /// If it cannot be read, or is malformed.
    pub(crate) fn new(loader: Arc<PartLoader>, cache: &PromptCache) -> Result<Self> {
        let checkpoint = loader.checkpoint();
        let keeps = cache.keeps(checkpoint)?;
        let cache = if keeps { cache.clone() } else { PromptCache::none() };
        let mut kept = KeptPrompts { cache, tokenizer: [0; 32], encoder: OnceLock::new() };
        let read = |file: TokenizerFile| {
            if keeps {
                kept.tokenizer = Sha256::digest(&file.bytes).into();
            }
            PromptTokenizer::from_bytes(&file.path, &file.bytes)
        };
        let tokenizer = checkpoint.tokenizer()?.map(read).transpose()?;
        Ok(Self { tokenizer, length: checkpoint.max_sequence_length().get(), loader, kept })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If the model has none, with where to get it.
    pub(crate) fn tokenizer(&self) -> Result<&PromptTokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| self.loader.checkpoint().no_tokenizer())
    }

    /// Words of the prompt that a small vocabulary does not have, with those that it has.
    pub(crate) fn unknown_words(&self, prompt: &str) -> Option<UnknownWords> {
        let tokenizer = self.tokenizer.as_ref()?;
        let unknown = tokenizer.unknown_words(prompt);
        let known = || tokenizer.known_words();
        (!unknown.is_empty()).then(|| UnknownWords { unknown, known: known() })
    }

    /// What is to be said of a prompt that is longer than the text encoder takes; `what` is what
    /// it is called.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn cut(&self, what: &str, prompt: &str) -> Result<Option<String>> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(None) };
        let cut = tokenizer.encode(prompt, self.length)?.cut;
        Ok(cut.map(|cut| {
            format!(
                "the {what} is longer than the {} tokens that this model takes; left out: {cut}",
                self.length
            )
        }))
    }

    /// Tokens of prompts, all together; where there is no tokenizer, the most that there can be.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(crate) fn tokens(&self, prompts: &[&str]) -> Result<usize> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(prompts.len() * self.length) };
        let words = |prompt: &&str| -> Result<usize> {
            let mask = tokenizer.encode(prompt, self.length)?.mask;
            Ok(mask.into_iter().filter(|is_word| *is_word > 0).count())
        };
        prompts.iter().map(words).sum()
    }

    /// Encodes a prompt: `[1, max_sequence_length, text_dim]`, zeros after its end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Tensor> {
        Ok(self.encode_both((prompt, None), EncoderUse::default(), &Cancel::default())?.0)
    }

    /// Encodes a prompt, and another where there is one. The text encoder is loaded once, and not at
    /// all where both are kept on the disk.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); `Cancelled` once `cancel` is set.
    pub(crate) fn encode_both(
        &self,
        (prompt, other): (&str, Option<&str>),
        how: EncoderUse,
        cancel: &Cancel,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let mut prompts = vec![self.ids(prompt, how)?];
        prompts.extend(other.map(|prompt| self.ids(prompt, how)).transpose()?);
        let mut embeds = self.kept_embeds(&prompts)?;
        let new: Vec<usize> = (0..prompts.len()).filter(|n| embeds[*n].is_none()).collect();
        if !new.is_empty() {
            let ids: Vec<&TokenIds> = new.iter().map(|number| &prompts[*number].ids).collect();
            let encoded = self.encode_new(&ids, how, cancel)?;
            for (row, number) in new.into_iter().enumerate() {
                let own = encoded.narrow(0, row, 1)?.force_contiguous()?;
                if let Some(key) = &prompts[number].key {
                    self.kept.cache.keep(key, &own);
                }
                embeds[number] = Some(own);
            }
        }
        let mut embeds = embeds.into_iter().flatten();
        let prompt = embeds.next().expect("one is asked for");
        Ok((prompt, embeds.next()))
    }

    /// Embeddings that are on the disk.
    fn kept_embeds(&self, prompts: &[KnownPrompt]) -> Result<Vec<Option<Tensor>>> {
        let checkpoint = self.loader.checkpoint();
        let of = |prompt: &KnownPrompt| {
            let Some(key) = &prompt.key else { return Ok(None) };
            let width = checkpoint.text_encoder_config()?.d_model;
            let Some(found) = self.kept.cache.find(key, &[1, self.length, width]) else {
                return Ok(None);
            };
            // What was fingerprinted is what it was encoded with.
            checkpoint.check_same(TEXT_ENCODER)?;
            Ok(Some(found.to_device(self.loader.device())?))
        };
        prompts.iter().map(of).collect()
    }

    /// Embeddings `[prompts, max_sequence_length, text_dim]` by the encoder, which is loaded for them.
    fn encode_new(
        &self,
        prompts: &[&TokenIds],
        how: EncoderUse,
        mut cancel: &Cancel,
    ) -> Result<Tensor> {
        let device = self.device(how);
        let encoder = self.loader.text_encoder(how.dtype, device, how.streamed)?;
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let (own, of_own) = prompt.tensors(device)?;
            ids.push(own);
            mask.push(of_own);
        }
        let (ids, mask) = (Tensor::cat(&ids, 0)?, Tensor::cat(&mask, 0)?);
        let embeds = encoder.prompt_embeds_observed(&ids, &mask, &mut cancel)?;
        Ok(embeds.to_device(self.loader.device())?)
    }

    /// Where the text encoder computes.
    fn device(&self, how: EncoderUse) -> &Device {
        match how.place {
            EncoderPlace::Device => self.loader.device(),
            EncoderPlace::Cpu => &Device::Cpu,
        }
    }

    fn ids(&self, prompt: &str, how: EncoderUse) -> Result<KnownPrompt> {
        let ids = self.tokenizer()?.encode(prompt, self.length)?;
        let key = self.key(prompt, &ids, how)?;
        Ok(KnownPrompt { ids, key })
    }

    /// By what the embedding is known on the disk, where it is kept.
    fn key(&self, prompt: &str, ids: &TokenIds, how: EncoderUse) -> Result<Option<PromptKey>> {
        let KeptPrompts { cache, tokenizer, encoder } = &self.kept;
        if cache.folder().is_none() {
            return Ok(None);
        }
        let encoder = kept(encoder, || EncoderKey::of(self.loader.checkpoint(), tokenizer))?;
        Ok(Some(encoder.of_prompt((prompt, ids), how.dtype, self.device(how))))
    }
}

/// A prompt in tokens, and by what its embedding is known on the disk, where it is kept.
struct KnownPrompt {
    ids: TokenIds,
    key: Option<PromptKey>,
}
