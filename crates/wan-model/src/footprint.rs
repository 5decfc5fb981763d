//! What a pass through a network holds above its weights, by formula, before anything is loaded.
//!
//! `docs/memory.md` has the terms and why each must exist. `tests/memory.rs` compares them with what an
//! allocator counts.

use candle_core::DType;

use wan_kernels::footprint::{attention_bytes, key_value_bytes, matrix_bytes, product_bytes};
use wan_kernels::{Kernels, Precision};

use crate::arithmetic::precision;
use crate::chunks::run_tokens;
use crate::clip::ClipVisionConfig;
use crate::config::WanConfig;
use crate::error::Result;
use crate::inspect::Network;
use crate::numerics::Numerics;
use crate::umt5::Umt5Config;
use crate::weights::{Scope, is_streamed, two_at_a_time};

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
            all.is_widened |= !at_rest.is_packed(compute);
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

/// An evaluation of a transformer on the CPU: of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Tokens of the window.
    pub tokens: usize,
    /// Tokens of the prompt, padding included.
    pub text_tokens: usize,
    /// Tokens of given pictures, where the model takes them.
    pub image_tokens: usize,
    /// The kernels that compute, and the threads that they compute on.
    pub on: Cpu,
    /// Whether a matrix of the blocks is widened while a product reads it.
    pub is_widened: bool,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernels.
    pub kernels: Kernels,
    /// Their threads.
    pub threads: usize,
}

impl Cpu {
    /// These kernels on the threads of the current pool.
    pub fn new(kernels: Kernels) -> Self {
        Self { kernels, threads: rayon::current_num_threads() }
    }

    /// Bytes of a product of `x [rows, inputs]` with a matrix `[outputs, inputs]`.
    fn product(self, x: [usize; 2], outputs: usize, of: (Precision, bool)) -> usize {
        product_bytes(self.kernels, (x, outputs), of, self.threads)
    }
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
        let (precision, stream) = (precision(numerics.compute), numerics.stream_dtype());
        let of = (precision, !self.is_widened);
        let heads = (config.num_attention_heads, config.attention_head_dim);
        let whole = matrix_bytes(precision, [l, d]);
        let run = run_tokens(l);
        let (operand, wide) =
            (matrix_bytes(precision, [run, d]), matrix_bytes(Precision::F32, [run, d]));
        let inner = matrix_bytes(precision, [run, ffn]);
        let Cpu { kernels, threads } = self.on;
        let attend = |queries: usize, keys: usize| {
            attention_bytes(kernels, ([queries, keys], heads.0, heads.1), precision, threads)
        };
        let square = self.on.product([run, d], d, of);
        let out = l * d * stream.size_in_bytes();
        // A stream in f16 is read and written in f32.
        let (read, written) =
            if stream == DType::F16 { (l * d * F32, l * d * F32) } else { (0, 0) };
        let projecting = (3 * whole + read, operand + wide + square);
        let attending = (4 * whole + read, attend(l, l));
        let in_context = 2 * operand + 3 * wide + square;
        let fed =
            (operand + self.on.product([run, d], ffn, of)).max(self.on.product([run, ffn], d, of));
        let after = (whole + out + read + written, in_context.max(wide + inner + fed));
        let moments = [projecting, attending, after];
        let most = moments.into_iter().max_by_key(|(held, working)| held + working);
        let (attention, workspace) = most.unwrap_or_default();
        let of_tokens = |tokens: usize| match tokens {
            0 => 0,
            _ => {
                let packed = key_value_bytes(kernels, (tokens, heads.0, heads.1), precision);
                tokens * d * F32 + config.num_layers * packed
            }
        };
        EvaluationBytes {
            context: of_tokens(self.text_tokens) + of_tokens(self.image_tokens),
            streams: 2 * l * d * stream.size_in_bytes() + l * heads.1 * F32,
            attention,
            workspace,
        }
    }
}

/// Bytes that the text encoder holds above its weights for a prompt of `tokens` tokens, padding
/// included: at most those of the feed-forward, since attention works on one head at a time.
pub fn text_encoder(
    config: &Umt5Config,
    tokens: usize,
    (on, compute, is_widened): (Cpu, DType, bool),
) -> usize {
    let inner = config.num_heads * config.d_kv;
    let (hidden, wide) = (tokens * config.d_model, tokens * config.d_ff);
    let of = (precision(compute), !is_widened);
    let fed_forward = 4 * (3 * hidden + 3 * wide)
        + on.product([tokens, config.d_model], config.d_ff, of).max(on.product(
            [tokens, config.d_ff],
            config.d_model,
            of,
        ));
    let attended = 4 * (3 * hidden + 4 * tokens * inner + 5 * tokens * tokens)
        + on.product([tokens, config.d_model], inner, of);
    fed_forward.max(attended) + 4 * 2 * tokens * tokens
}

/// Bytes that the image encoder holds above its weights for so many pictures.
pub fn image_encoder(config: &ClipVisionConfig, pictures: usize, on: Cpu) -> usize {
    let tokens = pictures * config.tokens();
    let pixels = pictures * config.num_channels * config.image_size * config.image_size;
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    F32 * (tokens * (7 * width + 2 * inner) + 2 * pixels)
        + on.product([tokens, width], inner, (Precision::F32, false))
}
