//! Prompts to embeddings.

use candle_core::{DType, Device, Tensor};
use wan_model::tokenizer::PromptTokenizer;
use wan_model::umt5::Umt5Encoder;
use wan_model::weights;

use crate::error::Result;
use crate::model_folder::ModelFolder;

/// Tokenizer and text encoder of a model.
pub struct PromptEncoder {
    tokenizer: PromptTokenizer,
    encoder: Umt5Encoder,
    length: usize,
    device: Device,
}

/// Words that a model cannot have learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWords {
    /// Words of the prompt that the vocabulary does not have.
    pub unknown: Vec<String>,
    /// Words that it has.
    pub known: Vec<String>,
}

impl PromptEncoder {
    /// Loads both, in f32.
    ///
    /// # Errors
    /// If a file is missing, truncated or does not fit its config.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let weights = weights::open(&folder.weights("text_encoder")?, DType::F32, device)?;
        Ok(Self {
            tokenizer: PromptTokenizer::from_file(&folder.tokenizer()?)?,
            encoder: Umt5Encoder::load(folder.text_encoder_config()?, weights)?,
            length: folder.max_sequence_length(),
            device: device.clone(),
        })
    }

    /// Words of the prompt that a small vocabulary does not have, with those that it has.
    pub fn unknown_words(&self, prompt: &str) -> Option<UnknownWords> {
        let unknown = self.tokenizer.unknown_words(prompt);
        let known = || self.tokenizer.known_words();
        (!unknown.is_empty()).then(|| UnknownWords { unknown, known: known() })
    }

    /// Encodes a prompt: `[1, max_sequence_length, text_dim]`, zeros after its end.
    ///
    /// # Errors
    /// If tokenizer or encoder fail.
    pub fn encode(&self, prompt: &str) -> Result<Tensor> {
        // As the pipelines clean prompts: white space collapsed.
        let clean = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
        let (ids, mask) = self.tokenizer.encode(&clean, self.length)?.tensors(&self.device)?;
        Ok(self.encoder.prompt_embeds(&ids, &mask)?)
    }
}
