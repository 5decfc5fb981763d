//! What a pass through a network holds above its weights, by formula, before anything is loaded.
//!
//! `docs/memory.md` has the terms and why each must exist. `tests/memory.rs` compares them with what an
//! allocator counts.

use candle_core::DType;

use crate::attention::queries_at_once;
use crate::chunks::run_tokens;
use crate::clip::ClipVisionConfig;
use crate::config::WanConfig;
use crate::error::Result;
use crate::inspect::Network;
use crate::numerics::Numerics;
use crate::umt5::Umt5Config;
use crate::weights::{Encoding, Scope, is_streamed, panel_rows, two_at_a_time};

/// Bytes of a number in f32.
const F32: usize = 4;

/// Bytes of a network's weights as it holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Matrices of each layer, which can come and go with its turn.
    pub layers: Vec<LayerBytes>,
    /// All else: it stays.
    pub rest: u64,
    /// Whether a matrix of a layer is widened for its products.
    pub is_widened: bool,
    /// The largest matrix of a layer that is kept as floats: while it is read its bytes are there
    /// twice.
    largest: u64,
}

/// Bytes of the matrices of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerBytes {
    /// Those that every pass reads.
    pub own: u64,
    /// Those that make keys and values of text and image, once a prompt.
    pub context: u64,
}

impl WeightBytes {
    /// What `source` gives to the layers of `network` that compute their products in `compute`.
    ///
    /// # Errors
    /// If a tensor is missing or misshaped.
    pub fn of(network: &Network, source: &Scope, compute: DType) -> Result<Self> {
        let mut all = Self::default();
        // What a transformer has beside its blocks computes in f32.
        let is_transformer = matches!(network, Network::Transformer(_));
        let outside = if is_transformer { DType::F32 } else { compute };
        for (name, shape) in network.tensors() {
            let at_rest = source.at_rest(shape.as_slice(), &name)?;
            let layer = LAYERS.iter().find_map(|layers| name.split_once(layers)?.1.split_once('.'));
            let layer = layer.and_then(|(number, _)| number.parse::<usize>().ok());
            if !is_matrix(&name, &shape) {
                all.rest += (F32 * shape.iter().product::<usize>()) as u64;
                continue;
            }
            let Some(number) = layer else {
                all.rest += at_rest.bytes(outside);
                continue;
            };
            if all.layers.len() <= number {
                all.layers.resize(number + 1, LayerBytes::default());
            }
            all.is_widened |= at_rest.encoding != Encoding::F32 || compute != DType::F32;
            let bytes = &mut all.layers[number];
            if at_rest.encoding.is_wide_float() {
                all.largest = all.largest.max(at_rest.bytes(compute));
            }
            let is_of_context = CONTEXT.iter().any(|part| name.contains(part));
            *(if is_of_context { &mut bytes.context } else { &mut bytes.own }) +=
                at_rest.bytes(compute);
        }
        Ok(all)
    }

    /// Bytes of the layers that are read in every pass, where `streamed` are.
    pub fn streamed(&self, streamed: usize) -> u64 {
        let count = self.layers.len();
        let layers = self.layers.iter().enumerate();
        let read = layers.filter(|(n, _)| is_streamed(*n, count, streamed.min(count)));
        read.map(|(_, bytes)| bytes.own).sum()
    }

    /// Bytes that are there all the time, and those that come and go, at most at a time, where
    /// `streamed` layers are in memory for their turn alone.
    pub fn resident(&self, streamed: usize) -> (u64, u64) {
        let count = self.layers.len();
        let (mut stays, mut goes) = (self.rest, Vec::new());
        for (number, LayerBytes { own, context }) in self.layers.iter().enumerate() {
            match is_streamed(number, count, streamed.min(count)) {
                true => goes.push((*own, *context)),
                false => stays += own + context,
            }
        }
        let (own, context): (Vec<u64>, Vec<u64>) = goes.into_iter().unzip();
        let most = two_at_a_time(&own).max(two_at_a_time(&context));
        (stays, if most > 0 { most + self.largest } else { 0 })
    }
}

/// What stands before the number of a layer.
const LAYERS: [&str; 3] = ["encoder.block.", "vision_model.encoder.layers.", "blocks."];

/// The projections of text and image to keys and values.
const CONTEXT: [&str; 4] =
    [".attn2.to_k.", ".attn2.to_v.", ".attn2.add_k_proj", ".attn2.add_v_proj"];

/// Whether a layer holds this as a matrix, in the format of its file; what else it has is f32.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    const TABLES: [&str; 3] = ["relative_attention_bias", "position_embedding", "fps_embedding"];
    shape.len() > 1 && name.ends_with(".weight") && !TABLES.iter().any(|table| name.contains(table))
}

/// Threads that compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// An evaluation of a transformer on the CPU: of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Tokens of the window.
    pub tokens: usize,
    /// Tokens of the prompt, padding included.
    pub text_tokens: usize,
    /// Tokens of given pictures, where the model takes them.
    pub image_tokens: usize,
    /// Threads that attend at a time.
    pub threads: usize,
    /// Whether the blocks' matrices are held in the format of their products.
    pub is_dense: bool,
}

/// Bytes that an evaluation holds above the weights, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvaluationBytes {
    /// Cross-attention keys and values of one prompt, and what they were computed from. They stay
    /// between evaluations.
    pub context: usize,
    /// Residual streams before the blocks and into one, and rotary tables.
    pub streams: usize,
    /// Queries, keys, values and attention's output; after attending, the output and the next stream.
    pub attention: usize,
    /// Scores and the heads that threads work on, or a run of tokens in the feed-forward, with the
    /// panel of a matrix that is widened.
    pub workspace: usize,
}

impl EvaluationBytes {
    /// All of it.
    pub fn sum(&self) -> usize {
        self.context + self.streams + self.attention + self.workspace
    }
}

impl Evaluation {
    /// What it holds.
    pub fn bytes(&self, config: &WanConfig, numerics: Numerics) -> EvaluationBytes {
        let (l, d, ffn) = (self.tokens, config.dim(), config.ffn_dim);
        let (w, s) = (numerics.compute.size_in_bytes(), numerics.stream_dtype().size_in_bytes());
        let is_half = numerics.compute != DType::F32;
        let rows = queries_at_once(l).min(l);
        let head = config.attention_head_dim;
        let widened = if is_half { (2 * l + rows) * head * F32 } else { 0 };
        let threads = self.threads * (F32 * rows * l + 2 * l * head * w + widened);
        let run = run_tokens(l);
        let rounded = if is_half { run * ffn * (w + F32) } else { 0 };
        let panel = if is_half || !self.is_dense { panel(d, ffn).max(panel(ffn, d)) } else { 0 };
        let run = run * (4 * d + ffn) * F32 + rounded + panel;
        let (while_attending, after) = ((4 * l * d * w, threads), (l * d * (w + s), run));
        let (attention, workspace) = if while_attending.0 + while_attending.1 > after.0 + after.1 {
            while_attending
        } else {
            after
        };
        let of_tokens = |tokens: usize| tokens * d * (config.num_layers * 2 * w + F32);
        EvaluationBytes {
            context: of_tokens(self.text_tokens) + of_tokens(self.image_tokens),
            streams: 2 * l * d * s + l * head * F32,
            attention,
            workspace,
        }
    }
}

/// Bytes of a widened panel of a matrix `[outputs, inputs]`.
fn panel(inputs: usize, outputs: usize) -> usize {
    F32 * inputs * panel_rows(inputs).min(outputs)
}

/// Bytes that the text encoder holds above its weights for a prompt of `tokens` tokens, padding
/// included: at most those of the feed-forward, since attention works on one head at a time.
pub fn text_encoder(config: &Umt5Config, tokens: usize) -> usize {
    let inner = config.num_heads * config.d_kv;
    let (hidden, wide) = (tokens * config.d_model, tokens * config.d_ff);
    let fed_forward = 3 * hidden + 3 * wide;
    let attended = 3 * hidden + 4 * tokens * inner + 5 * tokens * tokens;
    F32 * (fed_forward.max(attended) + 2 * tokens * tokens)
        + panel(config.d_model, config.d_ff).max(panel(config.d_ff, config.d_model))
}

/// Bytes that the image encoder holds above its weights for so many pictures.
pub fn image_encoder(config: &ClipVisionConfig, pictures: usize) -> usize {
    let tokens = pictures * config.tokens();
    let pixels = pictures * config.num_channels * config.image_size * config.image_size;
    F32 * (tokens * (7 * config.hidden_size + 2 * config.intermediate_size) + 2 * pixels)
        + panel(config.hidden_size, config.intermediate_size)
}
