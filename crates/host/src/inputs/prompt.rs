//! Prompts to embeddings.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use wan_model::tokenizer::{PromptTokenizer, TokenIds};
use wan_model::umt5::Umt5Encoder;

use crate::cancel::Cancel;
use crate::checkpoint::loader::PartLoader;
use crate::error::Result;
use crate::request::memory::EncoderPlace;
use crate::request::precision::Format;

/// Tokenizer of a model, and its text encoder for as long as it encodes: it is the largest part
/// after the transformers, and of no use to them once the prompts are embeddings.
pub(crate) struct PromptEncoder {
    /// None where the model has none: whoever encodes nothing needs none.
    tokenizer: Option<PromptTokenizer>,
    length: usize,
    loader: Arc<PartLoader>,
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
    /// Reads the tokenizer, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or is malformed.
    pub(crate) fn new(loader: Arc<PartLoader>) -> Result<Self> {
        let checkpoint = loader.checkpoint();
        let read = |file: crate::checkpoint::tokenizer::TokenizerFile| {
            PromptTokenizer::from_bytes(&file.path, &file.bytes)
        };
        let tokenizer = checkpoint.tokenizer()?.map(read).transpose()?;
        Ok(Self { tokenizer, length: checkpoint.max_sequence_length().get(), loader })
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

    /// Encodes a prompt: `[1, max_sequence_length, text_dim]`, zeros after its end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Tensor> {
        Ok(self.encode_both((prompt, None), EncoderUse::default(), &Cancel::default())?.0)
    }

    /// Encodes a prompt, and another where there is one, with the text encoder loaded once.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); `Cancelled` once `cancel` is set.
    pub(crate) fn encode_both(
        &self,
        (prompt, other): (&str, Option<&str>),
        how: EncoderUse,
        cancel: &Cancel,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let tokenizer = self.tokenizer()?;
        let ids = tokenizer.encode(prompt, self.length)?;
        let other = other.map(|prompt| tokenizer.encode(prompt, self.length)).transpose()?;
        let device = match how.place {
            EncoderPlace::Device => self.loader.device(),
            EncoderPlace::Cpu => &Device::Cpu,
        };
        let encoder = self.loader.text_encoder(how.dtype, device, how.streamed)?;
        let encode = |ids: &TokenIds| self.encode_with((&encoder, device), ids, cancel);
        let other = other.as_ref().map(encode).transpose()?;
        Ok((encode(&ids)?, other))
    }

    fn encode_with(
        &self,
        (encoder, device): (&Umt5Encoder, &Device),
        ids: &TokenIds,
        mut cancel: &Cancel,
    ) -> Result<Tensor> {
        let (ids, mask) = ids.tensors(device)?;
        let embeds = encoder.prompt_embeds_observed(&ids, &mask, &mut cancel)?;
        Ok(embeds.to_device(self.loader.device())?)
    }
}
