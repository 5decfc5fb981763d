//! Tensors in files that no network here reads, each with the reason why this is harmless. Any
//! other unread tensor means that the files are of another network.

use super::network::Network;

/// Part of a tensor's name, and the reason why the tensor is harmless.
type Names = &'static [(&'static str, &'static str)];

/// Ends of names, in every network.
const ENDS: Names = &[
    (
        "scale_input",
        "range of what enters a product of 8-bit floats; products are taken in wider formats here",
    ),
    ("input_scale", "the same under its newer name"),
];

/// Starts of names in a text encoder.
const OF_THE_TEXT_ENCODER: Names = &[
    ("shared.", "the embedding, which transformers writes under two names"),
    ("encoder.embed_tokens.", "the embedding, which transformers writes under two names"),
    ("spiece_model", "ComfyUI's copy of the tokenizer's file"),
];

/// Starts of names in an image encoder, of which the hidden state before the last layer is used.
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
    /// Whether a file of this network may have an unread tensor of this name.
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
