//! Prompts to embeddings.

use std::sync::Arc;

use candle_core::Tensor;
use wan_model::tokenizer::PromptTokenizer;
use wan_model::umt5::Umt5Encoder;

use crate::cancel::Cancel;
use crate::checkpoint::loader::PartLoader;
use crate::error::Result;

/// Tokenizer of a model, and its text encoder for as long as it encodes: it is the largest part
/// after the transformers, and of no use to them once the prompts are embeddings.
pub(crate) struct PromptEncoder {
    tokenizer: PromptTokenizer,
    length: usize,
    loader: Arc<PartLoader>,
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
    /// Reads the tokenizer.
    ///
    /// # Errors
    /// If there is none, or it is malformed.
    pub(crate) fn new(loader: Arc<PartLoader>) -> Result<Self> {
        let checkpoint = loader.checkpoint();
        let tokenizer = PromptTokenizer::from_file(&checkpoint.tokenizer()?)?;
        Ok(Self { tokenizer, length: checkpoint.max_sequence_length().get(), loader })
    }

    /// Words of the prompt that a small vocabulary does not have, with those that it has.
    pub(crate) fn unknown_words(&self, prompt: &str) -> Option<UnknownWords> {
        let unknown = self.tokenizer.unknown_words(prompt);
        let known = || self.tokenizer.known_words();
        (!unknown.is_empty()).then(|| UnknownWords { unknown, known: known() })
    }

    /// Encodes a prompt: `[1, max_sequence_length, text_dim]`, zeros after its end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Tensor> {
        Ok(self.encode_both((prompt, None), &Cancel::default())?.0)
    }

    /// Encodes a prompt, and another where there is one, with the text encoder loaded once.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); `Cancelled` once `cancel` is set.
    pub(crate) fn encode_both(
        &self,
        (prompt, other): (&str, Option<&str>),
        cancel: &Cancel,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let encoder = self.loader.text_encoder()?;
        let encode = |text: &str| self.encode_with(&encoder, text, cancel);
        let other = other.map(encode).transpose()?;
        Ok((encode(prompt)?, other))
    }

    fn encode_with(
        &self,
        encoder: &Umt5Encoder,
        prompt: &str,
        mut cancel: &Cancel,
    ) -> Result<Tensor> {
        // As the pipelines clean prompts: white space collapsed.
        let clean = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
        let device = self.loader.device();
        let (ids, mask) = self.tokenizer.encode(&clean, self.length)?.tensors(device)?;
        Ok(encoder.prompt_embeds_observed(&ids, &mask, &mut cancel)?)
    }
}
