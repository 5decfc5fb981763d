//! The UMT5 text encoder.
//!
//! candle-transformers' `t5.rs` has one relative position bias for all layers; UMT5 has one per
//! layer, so the encoder is written here. No projection has a bias, scores are not scaled, and
//! padded positions are masked as keys. Source: transformers 5.23.0 `UMT5EncoderModel`.

use crate::rms_norm::{RmsNorm, rms_norm};
use crate::weights::{Scope, Turns};
use candle_core::{D, DType, Device, Tensor};
use wan_border::numbers::u32_of;
use wan_kernels::Activation;

use crate::arithmetic::Arithmetic;
use crate::error::{Error, Result};
use crate::finite;
use crate::linear::{Linear, linear_no_bias};
use crate::observer::{self, Observer, Point};
use crate::product::product;
use crate::table::Table;

mod config;

pub use config::Umt5Config;

/// A UMT5 encoder.
pub struct Umt5Encoder {
    config: Umt5Config,
    /// `[vocab_size, d_model]`: rows are looked up.
    embedding: Table,
    layers: Vec<Layer>,
    turns: Turns,
    final_layer_norm: RmsNorm,
    arithmetic: Arithmetic,
}

impl Umt5Encoder {
    /// Builds the encoder from weights under transformers' names. Operands of products are rounded to
    /// the format of `scope`; all else is f32.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that fits no model, and errors of missing or misshaped
    /// tensors.
    pub fn load(config: Umt5Config, scope: Scope) -> Result<Self> {
        config.check()?;
        let _span = tracing::info_span!("load_text_encoder", layers = config.num_layers).entered();
        let encoder = scope.pp("encoder");
        // transformers writes the tied table under either name.
        let own = encoder.pp("embed_tokens");
        let table = if own.contains_tensor("weight") { own } else { scope.pp("shared") };
        let turns = scope.turns(config.num_layers)?;
        let layers = (0..config.num_layers)
            .map(|number| {
                let layer = encoder.pp("block").pp(number).pp("layer");
                Layer::load(&config, layer.in_turn(&turns, number))
            })
            .collect::<Result<_>>()?;
        let (width, eps) = (config.d_model, config.layer_norm_epsilon);
        Ok(Self {
            embedding: table.table((config.vocab_size, width), "weight")?,
            layers,
            turns,
            final_layer_norm: rms_norm(
                width,
                eps,
                &encoder.to_dtype(DType::F32).pp("final_layer_norm"),
            )?,
            arithmetic: scope.arithmetic().clone(),
            config,
        })
    }

    /// The config the encoder was built from.
    pub fn config(&self) -> &Umt5Config {
        &self.config
    }

    /// Bytes of weights that come and go with their turns, at most at a time.
    pub fn turn_bytes_max(&self) -> u64 {
        self.turns.bytes_max()
    }

    /// Ids and mask `[B,T]` (integers; mask 1 for words, 0 for padding) to the last hidden state
    /// `[B,T,d_model]`.
    ///
    /// # Errors
    /// [`Error::Input`] for other or different shapes.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.forward_observed(ids, mask, &mut ())
    }

    /// [`forward`](Self::forward) with an observer of the hidden state before each layer.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_observed(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let _span = tracing::debug_span!("text_encoder").entered();
        let _rest = self.arithmetic.rests();
        check_ids(ids, mask)?;
        let (batch, length) = ids.dims2()?;
        let buckets = self.buckets(length, ids.device())?;
        // Added to scores: 0 for words, the lowest number for padding.
        let masked = ((mask.to_dtype(DType::F32)? - 1.)? * -f64::from(f32::MIN))?;
        let sequences: Vec<Sequence> = (0..batch)
            .map(|row| {
                let masked = Some(masked.narrow(0, row, 1)?);
                Ok(Sequence { start: row * length, length, buckets: buckets.clone(), masked })
            })
            .collect::<Result<_>>()?;
        let ids = ids.flatten_all()?.to_dtype(DType::U32)?.to_vec1()?;
        let hidden = self.run((&ids, &sequences), (batch, length), observer)?;
        Ok(hidden.reshape((batch, length, ()))?)
    }

    /// The hidden state after the last norm, `[N,d_model]`, of sequences that are `N` ids together.
    /// The observer sees it as `shape` sequences of one length.
    fn run(
        &self,
        (ids, sequences): (&[u32], &[Sequence]),
        shape: (usize, usize),
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let mut hidden = self.embedding.rows(ids)?.to_dtype(DType::F32)?; // [N,D]
        self.turns.begin().each(0..self.layers.len(), |number| {
            if observer.looks() {
                let seen = hidden.reshape((shape.0, shape.1, ()))?;
                observer.see(Point::TextHidden(number), &seen);
            }
            observer::check(observer)?;
            let _span = tracing::debug_span!("text_layer", number).entered();
            hidden = self.layers[number].forward(&hidden, sequences)?;
            Ok(())
        })?;
        self.final_layer_norm.forward(&hidden)
    }

    /// The last hidden state `[B,T,d_model]` with padded positions set to 0: the input of the video
    /// transformer. Padding is not computed, and the layers read their weights once for all prompts. A
    /// prompt's bits depend on its own words alone.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn prompt_embeds(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        self.prompt_embeds_observed(ids, mask, &mut ())
    }

    /// As [`prompt_embeds`](Self::prompt_embeds), with the hidden state before each layer shown.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the observer ends the pass, [`Error::NotFinite`].
    pub fn prompt_embeds_observed(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let _rest = self.arithmetic.rests();
        check_ids(ids, mask)?;
        let (device, rows) = (ids.device(), ids.to_dtype(DType::U32)?.to_vec2::<u32>()?);
        let mask = mask.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let lengths =
            mask.iter().map(|mask| mask.iter().rposition(|m| *m > 0).map_or(0, |l| l + 1));
        let lengths: Vec<usize> = lengths.collect();
        let (mut words, mut sequences) = (Vec::new(), Vec::new());
        for (ids, length) in rows.iter().zip(&lengths).filter(|(_, length)| **length > 0) {
            let (start, buckets) = (words.len(), self.buckets(*length, device)?);
            sequences.push(Sequence { start, length: *length, buckets, masked: None });
            words.extend_from_slice(&ids[..*length]);
        }
        let shape = (rows.len(), ids.dim(1)?, self.config.d_model);
        if words.is_empty() {
            return Ok(Tensor::zeros(shape, DType::F32, device)?);
        }
        let hidden = self.run((&words, &sequences), (1, words.len()), observer)?;
        let hidden = finite::checked("the text encoder", hidden)?;
        let (mut start, mut embeds) = (0, Vec::new());
        for length in lengths {
            let own = hidden.narrow(0, start, length)?;
            embeds.push(own.pad_with_zeros(0, 0, shape.1 - length)?);
            start += length;
        }
        Ok(Tensor::stack(&embeds, 0)?)
    }

    /// Bucket of every query and key position, `[T T]` row by row.
    fn buckets(&self, length: usize, device: &Device) -> Result<Tensor> {
        let mut buckets = Vec::with_capacity(length * length);
        for query in 0..length {
            buckets.extend((0..length).map(|key| bucket(&self.config, query, key)));
        }
        Ok(Tensor::from_vec(buckets, length * length, device)?)
    }
}

/// Ids of one prompt among those that are encoded together.
struct Sequence {
    start: usize,
    length: usize,
    /// See [`Umt5Encoder::buckets`].
    buckets: Tensor,
    /// Added to scores, `[1,T]`; none where there is no padding.
    masked: Option<Tensor>,
}

fn check_ids(ids: &Tensor, mask: &Tensor) -> Result<()> {
    if ids.rank() != 2 || ids.dims() != mask.dims() {
        let found = (ids.dims(), mask.dims());
        return Err(Error::input("ids and mask", "[B,T] both", found));
    }
    Ok(())
}

/// Row of the relative position table: exact for near keys, logarithmic up to the maximum distance;
/// the upper half is for keys after the query. Computed in f32 like PyTorch, so that distances on a
/// border get the same bucket.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of steps"
)]
fn bucket(config: &Umt5Config, query: usize, key: usize) -> u32 {
    let side = config.relative_attention_num_buckets / 2;
    let exact = side / 2;
    let offset = if key > query { side } else { 0 };
    let distance = key.abs_diff(query);
    let bucket = if distance < exact {
        distance
    } else {
        let range = (config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
        let steps = (distance as f32 / exact as f32).ln() / range * (side - exact) as f32;
        (exact + steps as usize).min(side - 1)
    };
    u32_of(offset + bucket)
}

struct Layer {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// `[buckets, heads]`.
    relative_attention_bias: Tensor,
    heads: usize,
    ffn_norm: RmsNorm,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl Layer {
    fn load(config: &Umt5Config, scope: Scope) -> Result<Self> {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let eps = config.layer_norm_epsilon;
        let wide = scope.to_dtype(DType::F32);
        let (attention, ffn) = (scope.pp(0), scope.pp(1));
        let (own, dense) = (attention.pp("SelfAttention"), ffn.pp("DenseReluDense"));
        let table = (config.relative_attention_num_buckets, config.num_heads);
        Ok(Self {
            attention_norm: rms_norm(width, eps, &wide.pp(0).pp("layer_norm"))?,
            q: linear_no_bias(width, inner, own.pp("q"))?,
            k: linear_no_bias(width, inner, own.pp("k"))?,
            v: linear_no_bias(width, inner, own.pp("v"))?,
            o: linear_no_bias(inner, width, own.pp("o"))?,
            relative_attention_bias: own
                .to_dtype(DType::F32)
                .pp("relative_attention_bias")
                .get(table, "weight")?,
            heads: config.num_heads,
            ffn_norm: rms_norm(width, eps, &wide.pp(1).pp("layer_norm"))?,
            wi_0: linear_no_bias(width, config.d_ff, dense.pp("wi_0"))?,
            wi_1: linear_no_bias(width, config.d_ff, dense.pp("wi_1"))?,
            wo: linear_no_bias(config.d_ff, width, dense.pp("wo"))?,
        })
    }

    /// `[N,D]` to `[N,D]`.
    fn forward(&self, hidden: &Tensor, sequences: &[Sequence]) -> Result<Tensor> {
        let normed = self.attention_norm.forward(hidden)?;
        let hidden = (hidden + self.attend(&normed, sequences)?)?;
        let normed = self.ffn_norm.forward(&hidden)?;
        let gate = self.wi_0.forward_activated(&normed, Activation::GeluTanh)?;
        let inner = (gate * self.wi_1.forward(&normed)?)?;
        Ok((hidden + self.wo.forward(&inner)?)?)
    }

    /// One sequence after the other, one head after the other: scores of all heads would be the largest
    /// tensors by far.
    fn attend(&self, x: &Tensor, sequences: &[Sequence]) -> Result<Tensor> {
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|linear| linear.forward(x)); // [N,H d]
        let (q, k, v) = (q?, k?, v?);
        let attended = sequences.iter().map(|sequence| {
            let Sequence { start, length, buckets, masked } = sequence;
            let [q, k, v] = [&q, &k, &v].map(|x| x.narrow(0, *start, *length)); // [T,H d]
            let (q, k, v) = (q?, k?, v?);
            let attended = q.zeros_like()?;
            let width = q.dim(1)? / self.heads;
            for head in 0..self.heads {
                let own = |x: &Tensor| x.narrow(1, head * width, width)?.contiguous(); // [T,d]
                let bias = self.relative_attention_bias.narrow(1, head, 1)?.flatten_all()?;
                let bias = bias.contiguous()?.index_select(buckets, 0)?;
                let mut scores = product(&own(&q)?, &own(&k)?.t()?)?;
                scores = (scores + bias.reshape((*length, *length))?)?;
                if let Some(masked) = masked {
                    scores = scores.broadcast_add(masked)?;
                }
                let weights = candle_nn::ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?;
                let weights = weights.to_dtype(x.dtype())?;
                attended.slice_set(&product(&weights, &own(&v)?)?, 1, head * width)?;
            }
            Ok(attended)
        });
        let attended = attended.collect::<Result<Vec<_>>>()?;
        self.o.forward(&Tensor::cat(&attended, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::any_weights;

    fn tiny() -> Umt5Config {
        Umt5Config {
            vocab_size: 11,
            d_model: 6,
            d_kv: 4,
            d_ff: 8,
            num_layers: 2,
            num_heads: 2,
            ..Umt5Config::xxl()
        }
    }

    #[test]
    fn buckets_by_hand() {
        // 16 a side, 8 exact, then 8 log steps from 8 to 128, i.e. two for each doubling.
        let behind = |distance| bucket(&Umt5Config::xxl(), distance, 0);
        let distances = [0, 1, 7, 8, 11, 12, 16, 32, 64, 127, 128, 5000];
        assert_eq!(distances.map(behind), [0, 1, 7, 8, 8, 9, 10, 12, 14, 15, 15, 15]);
        let ahead = |distance| bucket(&Umt5Config::xxl(), 0, distance);
        assert_eq!([1, 7, 8, 128].map(ahead), [17, 23, 24, 31]);
    }

    #[test]
    fn prompts_are_encoded_at_their_own_lengths_whatever_is_beside_them() {
        let encoder = Umt5Encoder::load(tiny(), any_weights(1)).unwrap();
        let tensor = |rows: &[[u32; 5]]| {
            Tensor::from_vec(rows.concat(), (rows.len(), 5), &Device::Cpu).unwrap()
        };
        let (first, second) = ([4, 7, 1, 0, 0], [2, 9, 5, 3, 1]);
        let (of_first, of_second) = ([1, 1, 1, 0, 0], [1; 5]);
        let embeds = |ids: &[[u32; 5]], mask: &[[u32; 5]]| {
            encoder.prompt_embeds(&tensor(ids), &tensor(mask)).unwrap().to_vec3::<f32>().unwrap()
        };
        let both = embeds(&[first, second], &[of_first, of_second]);
        assert_eq!(both[0], embeds(&[first], &[of_first])[0]);
        assert_eq!(both[1], embeds(&[second], &[of_second])[0]);
        assert_eq!(embeds(&[first], &[[0; 5]])[0].concat(), [0.; 30]);
        // What the padded form computes, within rounding.
        let padded = encoder.forward(&tensor(&[first]), &tensor(&[of_first])).unwrap();
        let padded = padded.to_vec3::<f32>().unwrap();
        for (own, padded) in both[0][..3].iter().flatten().zip(padded[0][..3].iter().flatten()) {
            assert!((own - padded).abs() < 1e-5);
        }
    }

    #[test]
    fn padding_changes_no_word_and_is_zero() {
        let encoder = Umt5Encoder::load(tiny(), any_weights(1)).unwrap();
        let tensor = |numbers: &[u32]| Tensor::new(numbers, &Device::Cpu).unwrap();
        let row = |numbers: &[u32]| tensor(numbers).unsqueeze(0).unwrap();
        let short = encoder.prompt_embeds(&row(&[4, 7, 1]), &row(&[1, 1, 1])).unwrap();
        let long = encoder.prompt_embeds(&row(&[4, 7, 1, 0, 0]), &row(&[1, 1, 1, 0, 0])).unwrap();
        let (short, long) = (short.to_vec3::<f32>().unwrap(), long.to_vec3::<f32>().unwrap());
        for (short, long) in short[0].iter().flatten().zip(long[0].iter().flatten()) {
            assert!((short - long).abs() < 1e-5);
        }
        assert!(short[0].iter().flatten().any(|number| number.abs() > 0.01));
        assert!(long[0][3..].iter().flatten().all(|number| *number == 0.));
    }

    #[test]
    fn ids_and_mask_of_different_length_are_refused() {
        let encoder = Umt5Encoder::load(tiny(), any_weights(1)).unwrap();
        let row = |count| Tensor::ones((1, count), DType::U32, &Device::Cpu).unwrap();
        assert!(encoder.forward(&row(3), &row(2)).is_err());
    }
}
