//! By what the embedding of a prompt is known again: a hash over all that decides its bits.

use candle_core::Device;
use serde_json::json;
use sha2::{Digest, Sha256};
use wan_model::tokenizer::{TokenIds, clean};

use crate::checkpoint::Checkpoint;
use crate::device::describe;
use crate::device::processor::abilities;
use crate::error::Result;
use crate::request::precision::Format;

/// Generation of the code that computes embeddings. It is raised with every change after which the
/// same prompt may have other bits: of the cleaning, the tokenizer, the text encoder, the kernels
/// and products below it.
const GENERATION: u32 = 2;

/// What decides the bits of all embeddings of a model, but for the prompt.
#[derive(Clone)]
pub(super) struct EncoderKey(Sha256);

/// The hash of a prompt with all that decides the bits of its embedding. It does not tell the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PromptKey([u8; 32]);

/// Takes a value into a hash, so that no two lists of values are the same bytes.
fn add(hash: &mut Sha256, value: &[u8]) {
    hash.update((value.len() as u64).to_le_bytes());
    hash.update(value);
}

impl EncoderKey {
    /// That of a model's text encoder with the tokenizer of these bytes.
    ///
    /// # Errors
    /// If a file of the text encoder cannot be read.
    pub(super) fn of(checkpoint: &Checkpoint, tokenizer: &[u8; 32]) -> Result<Self> {
        let config = json!(checkpoint.text_encoder_config()?).to_string();
        let mut hash = Sha256::new();
        for value in [
            format!("wan prompt {GENERATION} of {}", env!("CARGO_PKG_VERSION")).as_bytes(),
            abilities().join(" ").as_bytes(),
            config.as_bytes(),
            checkpoint.fingerprint_of("text_encoder")?.as_bytes(),
            tokenizer,
        ] {
            add(&mut hash, value);
        }
        Ok(Self(hash))
    }

    /// The key of a prompt with these ids, where products are computed in `numbers` on `device`.
    pub(super) fn of_prompt(
        &self,
        (prompt, ids): (&str, &TokenIds),
        numbers: Format,
        device: &Device,
    ) -> PromptKey {
        let mut hash = self.0.clone();
        add(&mut hash, format!("{numbers:?}").as_bytes());
        add(&mut hash, describe(device).as_bytes());
        add(&mut hash, clean(prompt).as_bytes());
        for numbers in [&ids.ids, &ids.mask] {
            add(
                &mut hash,
                &numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>(),
            );
        }
        PromptKey(hash.finalize().into())
    }
}

impl PromptKey {
    /// Hexadecimal digits.
    pub(super) fn digits(&self) -> String {
        hex::encode(self.0)
    }
}

#[cfg(test)]
impl PromptKey {
    /// A key of nothing, for tests.
    pub(super) fn of_number(number: u8) -> Self {
        Self([number; 32])
    }
}
