//! What of a model is in memory while a run goes on. It changes no number of a video.

use serde::{Deserialize, Serialize};

/// What of a model is in memory, and when. Encoders are there for their own turn in any case, and
/// transformers are gone when the video is decoded in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Residency {
    /// Whether of two experts one is there at a time.
    pub one_expert: bool,
    /// Blocks of each transformer that are read for their turn in every evaluation.
    pub streamed_blocks: usize,
    /// Layers of the text encoder that are read for their turn.
    pub streamed_text_layers: usize,
    /// Layers of the image encoder that are read for their turn.
    pub streamed_image_layers: usize,
    /// Whether the layers of the VAE are read for their turn, for each latent frame.
    pub streamed_vae: bool,
    /// When what a run hands out between its windows is decoded.
    pub decoding: DecodingTime,
}

impl Residency {
    /// Transformers that may be there at once.
    pub(crate) fn experts_max(&self) -> usize {
        if self.one_expert { 1 } else { usize::MAX }
    }
}

/// When latent frames that a run hands out before its end are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodingTime {
    /// At once; the VAE stays beside the transformer.
    Kept,
    /// At once; the VAE comes for it, and goes again.
    #[default]
    Swapped,
    /// In the end, when the transformer is gone.
    AtEnd,
}

impl DecodingTime {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kept => "decoding between windows, with the VAE kept",
            Self::Swapped => "decoding between windows, for which the VAE comes and goes",
            Self::AtEnd => "decoding in the end, without the transformer",
        }
    }
}
