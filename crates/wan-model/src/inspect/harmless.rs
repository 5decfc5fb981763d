//! Tensors that files hold though no network here reads them, and why that is harmless. Any other
//! tensor without a reader means that the files are of another network.

use crate::inspect::Network;

/// Tensors whose names have this in the place that the list says, and the reason.
type Names = &'static [(&'static str, &'static str)];

/// By the end of the name, in every network.
const ENDS: Names = &[(
    "scale_input",
    "range of what enters a product of 8-bit floats; products are taken in wider formats here",
)];

/// By the start of the name.
const OF_THE_TEXT_ENCODER: Names = &[
    ("shared.", "the embedding, which transformers writes under two names"),
    ("encoder.embed_tokens.", "the embedding, which transformers writes under two names"),
    ("spiece_model", "ComfyUI's copy of the tokenizer's file"),
];

/// By the start of the name. What is used is the hidden state before the last layer.
const OF_THE_IMAGE_ENCODER: Names = &[
    ("vision_model.embeddings.position_ids", "the numbers from 0 on, which older releases saved"),
    ("vision_model.post_layernorm.", "comes after the hidden state that is used"),
    ("visual_projection.", "comes after the hidden state that is used"),
    ("visual.head", "comes after the hidden state that is used"),
    ("textual.", "the text half of open-clip's model"),
    ("text_model.", "the text half of transformers' model"),
    ("text_projection.", "the text half of transformers' model"),
    ("log_scale", "temperature of CLIP's training"),
    ("logit_scale", "temperature of CLIP's training"),
];

impl Network {
    /// Whether a file of this network may hold a tensor of this name without a reader.
    pub(super) fn passes_over(&self, name: &str) -> bool {
        let starts: Names = match self {
            Self::Transformer(_) | Self::Vae(_) => &[],
            Self::TextEncoder(_) => OF_THE_TEXT_ENCODER,
            Self::ImageEncoder(_) => OF_THE_IMAGE_ENCODER,
        };
        starts.iter().any(|(start, _)| name.starts_with(start))
            || ENDS.iter().any(|(end, _)| name.ends_with(end))
    }
}
