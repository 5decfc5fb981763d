//! A block on the CPU, over buffers of the kernels' pool.
//!
//! What a product or an attention reads is written in the format of its operands by the pass that makes
//! it; bias, GELU, gate and residual are added to a product before it is stored.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use wan_kernels::{
    Activation, AddTo, Affine, Attention, Buffer, Context, Elements, Matrix, MatrixMut, Precision,
    Rotation, Span, activate, add_gated, attend, attend_to, layer_norm,
};

use super::component::{GATE_1, GATE_2, SCALE_1, SCALE_2, SHIFT_1, SHIFT_2};
use super::{AttentionLayer, Block, BlockInputs, ContextKeyValue, KeyValue};
use crate::arithmetic::{elements, numbers, precision};
use crate::chunks::runs;
use crate::error::{Error, Result};
use crate::fused::Entries;
use crate::observer::{BlockPoint, Observer};
use crate::rows::Rows;
use crate::views::Views;

impl Block {
    pub(super) fn forward_on_cpu(
        &self,
        hidden: &Tensor,
        table: &Rows,
        inputs: &BlockInputs,
        (context, observer): (&ContextKeyValue, &mut dyn Observer),
    ) -> Result<Tensor> {
        let (batch, tokens, width) = hidden.dims3()?;
        let stream = self.numerics.stream_dtype();
        let hidden = match hidden.dtype() {
            DType::F32 | DType::BF16 => hidden.contiguous()?,
            _ => hidden.to_dtype(DType::F32)?.contiguous()?,
        };
        let (storage, layout) = hidden.storage_and_layout();
        let (table_storage, _) = table.rows().storage_and_layout();
        let rope = (inputs.rope.cos.storage_and_layout(), inputs.rope.sin.storage_and_layout());
        let pass = Pass {
            block: self,
            context: self.arithmetic.context(),
            precision: precision(self.numerics.compute),
            batch,
            tokens,
            width,
            hidden: Matrix::dense(elements(&storage, layout)?, [batch * tokens, width]),
            table: Entries::new(&table_storage, table, tokens)?,
            cos: numbers(&rope.0.0, rope.0.1)?,
            sin: numbers(&rope.1.0, rope.1.1)?,
        };
        let mut views = Views::new(self.number, (batch, tokens), observer);
        let spans = inputs.attention.token_spans(inputs.grid.frames, inputs.grid.frame_tokens());
        let attended = pass.attend_to_self(&spans, &mut views)?;
        // Queries, keys and values are done with: their memory is the outgoing stream's.
        pass.context.pool.clear();
        let mut out = Stream::new(stream, [batch * tokens, width]);
        for run in runs(batch, tokens) {
            let mut x = pass.add_attention(&attended, &run, &mut views)?;
            pass.add_context(&mut x, context, &run, &mut views)?;
            pass.add_fed_forward(&x, &run, (&mut out, &mut views))?;
        }
        views.show()?;
        Ok(out.finish((batch, tokens, width))?.to_dtype(stream)?)
    }
}

/// A pass of a block.
struct Pass<'a> {
    block: &'a Block,
    context: Context<'a>,
    /// What operands are multiplied in.
    precision: Precision,
    batch: usize,
    /// Tokens of a video.
    tokens: usize,
    width: usize,
    /// The incoming stream `[B L, D]`.
    hidden: Matrix<'a>,
    table: Entries<'a>,
    /// `[L, head_dim/2]`.
    cos: &'a [f32],
    sin: &'a [f32],
}

impl<'a> Pass<'a> {
    /// A buffer `[rows, columns]` for what a product reads.
    fn operand(&self, rows: usize, columns: usize) -> Buffer<'a> {
        self.context.pool.matrix(self.precision, [rows, columns])
    }

    /// A buffer `[rows, D]` of f32.
    fn wide(&self, rows: usize) -> Buffer<'a> {
        self.context.pool.matrix(Precision::F32, [rows, self.width])
    }

    /// Layer norm to `out`.
    fn norm(&self, x: Matrix, affine: Affine, out: MatrixMut) {
        #[allow(clippy::cast_possible_truncation, reason = "an epsilon, from f64")]
        let eps = self.block.eps as f32;
        layer_norm(self.context.kernels, x, eps, affine, out);
    }

    /// The attention of one of the block's attention layers.
    fn attention(&self, batch: usize) -> Attention {
        let (heads, precision) = (self.block.attn1.heads, self.precision);
        Attention { batch, heads, scale: 1., precision }
    }

    /// Self-attention before its output projection, `[B L, D]`.
    fn attend_to_self(&self, spans: &[Span], views: &mut Views) -> Result<Buffer<'a>> {
        let rows = self.batch * self.tokens;
        let [mut query, mut key, mut value] = [(); 3].map(|()| self.operand(rows, self.width));
        let attn1 = &self.block.attn1;
        for run in runs(self.batch, self.tokens) {
            let (hidden, count) = (self.hidden.narrow(run.clone()), run.len());
            if views.look() {
                let mut normed = self.wide(count);
                self.norm(hidden, Affine::None, normed.all_mut());
                see(views, BlockPoint::Norm1, &run, normed.all())?;
            }
            let affine = Affine::Modulated {
                scale: self.table.of(SCALE_1, run.clone()),
                shift: self.table.of(SHIFT_1, run.clone()),
            };
            let mut x = self.operand(count, self.width);
            self.norm(hidden, affine, x.all_mut());
            let rotation = Some(self.rotation(&run));
            for (is_query, out) in [(true, &mut query), (false, &mut key)] {
                let (layer, norm, scale) = match is_query {
                    true => (&attn1.to_q, &attn1.norm_q, softmax_scale(attn1)),
                    false => (&attn1.to_k, &attn1.norm_k, 1.),
                };
                let mut projected = self.wide(count);
                layer.multiply(x.all(), Activation::Identity, None, projected.all_mut())?;
                if views.look() {
                    let mut normed = self.wide(count);
                    norm.write(projected.all(), (None, 1.), normed.all_mut())?;
                    let point =
                        if is_query { BlockPoint::Attn1Query } else { BlockPoint::Attn1Key };
                    see(views, point, &run, normed.all())?;
                }
                norm.write(projected.all(), (rotation, scale), out.rows_mut(run.clone()))?;
            }
            let out = value.rows_mut(run.clone());
            attn1.to_v.multiply(x.all(), Activation::Identity, None, out)?;
        }
        let mut attended = self.operand(rows, self.width);
        let given = [query.all(), key.all(), value.all()];
        attend(self.context, self.attention(self.batch), given, spans, attended.all_mut());
        Ok(attended)
    }

    /// Angles of the tokens of a run, which are of one video.
    fn rotation(&self, run: &Range<usize>) -> Rotation<'a> {
        let pairs = self.cos.len() / self.tokens;
        let own = run.start % self.tokens * pairs..(run.start % self.tokens + run.len()) * pairs;
        Rotation { cos: &self.cos[own.clone()], sin: &self.sin[own], tokens: run.len() }
    }

    /// `hidden + gate_1 W_o attended` for a run of tokens, `[l, D]` in f32.
    fn add_attention(
        &self,
        attended: &Buffer,
        run: &Range<usize>,
        views: &mut Views,
    ) -> Result<Buffer<'a>> {
        let (to_out, attended) = (&self.block.attn1.to_out, attended.rows(run.clone()));
        if views.look() {
            let mut projected = self.wide(run.len());
            to_out.multiply(attended, Activation::Identity, None, projected.all_mut())?;
            see(views, BlockPoint::Attn1, run, projected.all())?;
        }
        let gate = Some(self.table.of(GATE_1, run.clone()));
        let add = AddTo { to: Some(self.hidden.narrow(run.clone())), gate };
        let mut x = self.wide(run.len());
        to_out.multiply(attended, Activation::Identity, Some(add), x.all_mut())?;
        Ok(x)
    }

    /// Adds the cross-attention of a run of tokens to text and image.
    fn add_context(
        &self,
        x: &mut Buffer,
        context: &ContextKeyValue,
        run: &Range<usize>,
        views: &mut Views,
    ) -> Result<()> {
        let (count, attn2) = (run.len(), &self.block.attn2);
        let affine = self.block.norm2.as_ref();
        let affine = affine.map(|(w, b)| (w.storage_and_layout(), b.storage_and_layout()));
        let affine = match &affine {
            Some((weight, bias)) => Some(Affine::Shared {
                weight: numbers(&weight.0, weight.1)?,
                bias: numbers(&bias.0, bias.1)?,
            }),
            None => None,
        };
        let norm = |x: &Buffer, out: MatrixMut| match affine {
            Some(affine) => self.norm(x.all(), affine, out),
            None => activate(self.context.kernels, Some(x.all()), Activation::Identity, out),
        };
        if views.look() {
            let mut normed = self.wide(count);
            norm(x, normed.all_mut());
            see(views, BlockPoint::Norm2, run, normed.all())?;
        }
        let mut operand = self.operand(count, self.width);
        norm(x, operand.all_mut());
        let mut projected = self.wide(count);
        attn2.to_q.multiply(operand.all(), Activation::Identity, None, projected.all_mut())?;
        attn2.norm_q.write(projected.all(), (None, softmax_scale(attn2)), operand.all_mut())?;
        let attended = self.attend_to_context(operand, projected, context, run)?;
        if views.look() {
            let mut projected = self.wide(count);
            let out = projected.all_mut();
            attn2.to_out.multiply(attended.all(), Activation::Identity, None, out)?;
            see(views, BlockPoint::Attn2, run, projected.all())?;
        }
        let add = AddTo { to: None, gate: None };
        attn2.to_out.multiply(attended.all(), Activation::Identity, Some(add), x.all_mut())
    }

    /// One attention over the text and one over the image share the queries; their sum is given.
    /// `wide` is a buffer that is done with.
    fn attend_to_context(
        &self,
        query: Buffer<'a>,
        mut wide: Buffer<'a>,
        context: &ContextKeyValue,
        run: &Range<usize>,
    ) -> Result<Buffer<'a>> {
        let one = |key_value: &KeyValue, query: &Buffer, out: MatrixMut| -> Result<()> {
            let KeyValue::Packed(videos) = key_value else {
                return Err(Error::input("a context", "one made on the CPU", key_value));
            };
            let key_value = &videos[run.start / self.tokens];
            let spans = [Span { queries: 0..run.len(), keys: 0..key_value.keys() }];
            attend_to(self.context, self.attention(1), (query.all(), key_value), &spans, out);
            Ok(())
        };
        let mut attended = self.operand(run.len(), self.width);
        let Some(image) = &context.image else {
            one(&context.text, &query, attended.all_mut())?;
            return Ok(attended);
        };
        one(&context.text, &query, wide.all_mut())?;
        let mut of_image = self.wide(run.len());
        one(image, &query, of_image.all_mut())?;
        let kernels = self.context.kernels;
        add_gated(kernels, wide.all(), of_image.all(), None, attended.all_mut());
        Ok(attended)
    }

    /// Adds the gated feed-forward of a run of tokens, and writes the sum to the outgoing stream.
    fn add_fed_forward(
        &self,
        x: &Buffer,
        run: &Range<usize>,
        (out, views): (&mut Stream, &mut Views),
    ) -> Result<()> {
        let (count, block) = (run.len(), self.block);
        let affine = Affine::Modulated {
            scale: self.table.of(SCALE_2, run.clone()),
            shift: self.table.of(SHIFT_2, run.clone()),
        };
        let mut operand = self.operand(count, self.width);
        self.norm(x.all(), affine, operand.all_mut());
        let mut inner = self.operand(count, block.ffn_in.outputs());
        block.ffn_in.multiply(operand.all(), Activation::GeluTanh, None, inner.all_mut())?;
        drop(operand);
        if views.look() {
            let mut fed = self.wide(count);
            block.ffn_out.multiply(inner.all(), Activation::Identity, None, fed.all_mut())?;
            see(views, BlockPoint::Ffn, run, fed.all())?;
        }
        let gate = Some(self.table.of(GATE_2, run.clone()));
        let add = AddTo { to: Some(x.all()), gate };
        let identity = Activation::Identity;
        block.ffn_out.multiply(inner.all(), identity, Some(add), out.rows_mut(run.clone()))?;
        if views.look() {
            see(views, BlockPoint::Out, run, out.rows(run.clone()))?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a factor, from f64")]
fn softmax_scale(layer: &AttentionLayer) -> f32 {
    layer.softmax_scale() as f32
}

/// Shows rows of an intermediate tensor to the observer.
fn see(views: &mut Views, point: BlockPoint, run: &Range<usize>, rows: Matrix) -> Result<()> {
    let shape = (rows.rows(), rows.columns());
    let part = match rows.elements() {
        Elements::F32(numbers) => Tensor::from_slice(numbers, shape, &Device::Cpu)?,
        Elements::Bf16(numbers) => Tensor::from_slice(numbers, shape, &Device::Cpu)?,
    };
    views.see_rows(point, run.start, &part)
}

/// The outgoing stream `[rows, columns]`: of f16, the numbers in f32.
enum Stream {
    F32(Vec<f32>, usize),
    Bf16(Vec<bf16>, usize),
}

impl Stream {
    fn new(dtype: DType, [rows, columns]: [usize; 2]) -> Self {
        match dtype {
            DType::BF16 => Self::Bf16(vec![bf16::ZERO; rows * columns], columns),
            _ => Self::F32(vec![0.; rows * columns], columns),
        }
    }

    fn rows(&self, rows: Range<usize>) -> Matrix<'_> {
        let shape = |columns| [rows.len(), columns];
        match self {
            Self::F32(all, columns) => {
                Matrix::dense(&all[rows.start * columns..rows.end * columns], shape(*columns))
            }
            Self::Bf16(all, columns) => {
                Matrix::dense(&all[rows.start * columns..rows.end * columns], shape(*columns))
            }
        }
    }

    fn rows_mut(&mut self, rows: Range<usize>) -> MatrixMut<'_> {
        let shape = |columns| [rows.len(), columns];
        match self {
            Self::F32(all, columns) => {
                let own = rows.start * *columns..rows.end * *columns;
                MatrixMut::dense(&mut all[own], shape(*columns))
            }
            Self::Bf16(all, columns) => {
                let own = rows.start * *columns..rows.end * *columns;
                MatrixMut::dense(&mut all[own], shape(*columns))
            }
        }
    }

    fn finish(self, shape: (usize, usize, usize)) -> candle_core::Result<Tensor> {
        match self {
            Self::F32(all, _) => Tensor::from_vec(all, shape, &Device::Cpu),
            Self::Bf16(all, _) => Tensor::from_vec(all, shape, &Device::Cpu),
        }
    }
}
