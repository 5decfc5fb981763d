//! The Wan transformer in three stages: [`embed`](WanModel::embed),
//! [`blocks`](WanModel::blocks), [`head`](WanModel::head).
//!
//! The caller runs the stages, so that it can skip the blocks or read tensors between them. Source:
//! diffusers 0.42.1 `WanTransformer3DModel`, `SkyReelsV2Transformer3DModel`; Wan2.1 9737cba;
//! SkyReels-V2 abed76f.

use std::ops::Range;

use crate::weights::{Scope, Streamed, Turns};
use candle_core::{DType, Tensor};

use crate::arithmetic::Arithmetic;
use crate::attention::Attention;
use crate::block::{Block, BlockInputs, ContextKeyValue};
use crate::chunks::{Assembly, chunks};
use crate::config::WanConfig;
use crate::embeddings::{ImageEmbedding, PatchEmbedding, TextEmbedding, TimeEmbedding};
use crate::error::{Error, Result};
use crate::fused;
use crate::linear::{Linear, linear};
use crate::numerics::Numerics;
use crate::observer::{self, Observer, Point};
use crate::rope::{Grid, Rope};
use crate::rows::Rows;
use crate::threads;
use crate::timesteps::Timesteps;

/// A Wan 2.1 or SkyReels-V2 transformer. Immutable: one model serves any number of threads.
pub struct WanModel {
    config: WanConfig,
    numerics: Numerics,
    patch_embedding: PatchEmbedding,
    time_embedding: TimeEmbedding,
    text_embedding: TextEmbedding,
    image_embedding: Option<ImageEmbedding>,
    blocks: Vec<Block>,
    /// When the matrices of each block are in memory.
    turns: Turns,
    /// The same for the projections of text and image, which are of no use once a context is made.
    context_turns: Turns,
    scale_shift_table: Tensor,
    proj_out: Linear,
    arithmetic: Arithmetic,
}

/// The condition of the blocks: a prompt, and an image if the model takes image tokens. Computed
/// once and used in every step.
#[derive(Clone, Debug)]
pub struct TextContext {
    hidden: Tensor,
    image: Option<Tensor>,
    key_values: Vec<ContextKeyValue>,
}

impl TextContext {
    /// Text embedding `[B,T,D]`, before the blocks' key and value projections.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Image embedding `[B,T,D]`, before the blocks' projections; for models with image tokens.
    pub fn image(&self) -> Option<&Tensor> {
        self.image.as_ref()
    }
}

/// Latents and timesteps after embedding: the inputs of blocks and head.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Patch tokens `[B,L,D]`, the input of the first block, in the residual stream's dtype
    /// ([`Numerics::stream_dtype`]).
    pub hidden: Tensor,
    /// Time embedding, rows `[B,K,D]`: modulates the head.
    pub e: Rows,
    /// Time projection with the frame-rate term, rows `[B,K,6,D]`: modulates every block.
    pub e0: Rows,
    /// Tokens along time, height and width.
    pub grid: Grid,
    /// Rotary tables of the tokens.
    pub rope: Rope,
}

impl WanModel {
    /// Builds the model from weights under diffusers' names, in f32.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that fits no model, and errors of missing or misshaped
    /// tensors.
    pub fn load(config: WanConfig, scope: Scope) -> Result<Self> {
        Self::load_with(config, scope, Numerics::default())
    }

    /// Builds the model from weights under diffusers' names, in the formats of `numerics`. Each
    /// tensor is requested in the format of its use; the dtype of `scope` has no effect.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(config: WanConfig, scope: Scope, numerics: Numerics) -> Result<Self> {
        let blocks = config.num_layers;
        Self::load_blocks(config, scope, numerics, blocks)
    }

    /// The model without blocks: embeddings and head alone. Time signals are those of the whole
    /// model; hidden states pass unchanged. For plans, which do not generate.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_without_blocks(
        config: WanConfig,
        scope: Scope,
        numerics: Numerics,
    ) -> Result<Self> {
        Self::load_blocks(config, scope, numerics, 0)
    }

    fn load_blocks(
        config: WanConfig,
        scope: Scope,
        numerics: Numerics,
        blocks: usize,
    ) -> Result<Self> {
        config.check()?;
        numerics.check()?;
        let _span = tracing::info_span!("load_transformer", layers = config.num_layers).entered();
        let (dim, [pt, ph, pw]) = (config.dim(), config.patch_size);
        let scope = scope.to_dtype(DType::F32);
        let (turns, context_turns) = (scope.turns(blocks)?, scope.turns(blocks)?);
        let load = |number: usize| {
            let block = scope.pp("blocks").pp(number);
            let (own, context) =
                (block.in_turn(&turns, number), block.in_turn(&context_turns, number));
            Block::load(&config, number, numerics, (own, context))
        };
        let blocks = (0..blocks).map(load).collect::<Result<_>>()?;
        Ok(Self {
            patch_embedding: PatchEmbedding::load(&config, &scope.pp("patch_embedding"))?,
            time_embedding: TimeEmbedding::load(&config, &scope)?,
            text_embedding: TextEmbedding::load(&config, scope.clone())?,
            image_embedding: ImageEmbedding::load(&config, scope.clone())?,
            blocks,
            turns,
            context_turns,
            scale_shift_table: scope.get((1, 2, dim), "scale_shift_table")?,
            proj_out: linear(dim, pt * ph * pw * config.out_channels, scope.pp("proj_out"))?,
            arithmetic: scope.arithmetic().clone(),
            config,
            numerics,
        })
    }

    /// The config the model was built from.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// Number of blocks: [`WanConfig::num_layers`], or 0 if it was loaded without blocks.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of weights that come and go with their turns, at most at a time.
    pub fn turn_bytes_max(&self) -> u64 {
        self.turns.bytes_max().max(self.context_turns.bytes_max())
    }

    /// What was read for turns so far.
    pub fn streamed(&self) -> Streamed {
        self.turns.streamed() + self.context_turns.streamed()
    }

    /// The formats it computes in.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// [`context`](Self::context) of a model without image tokens.
    ///
    /// # Errors
    /// As [`context`](Self::context).
    pub fn text_context(&self, prompt_embeds: &Tensor) -> Result<TextContext> {
        self.context(prompt_embeds, None)
    }

    /// Embeds the condition and computes every block's cross-attention keys and values. Inputs may
    /// have any float dtype.
    ///
    /// `prompt_embeds` is the text encoder's output `[B,T,text_dim]`. All `T` rows are attended to,
    /// including padding, as in training. `image_embeds` is given if and only if
    /// [`WanConfig::takes_image_tokens`]: the image encoder's penultimate hidden state
    /// `[B,T',image_dim]`, or `[2B,T',image_dim]` (first and last frame of each video) for a model
    /// with positions for two images.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape, or an image that is missing or not taken.
    pub fn context(
        &self,
        prompt_embeds: &Tensor,
        image_embeds: Option<&Tensor>,
    ) -> Result<TextContext> {
        self.observed(&mut ()).context(prompt_embeds, image_embeds)
    }

    /// Embeds latents `[B,C,F,H,W]` and their timesteps. `fps_class` has one class per video (0 for
    /// 16 fps, 1 for any other) if the config sets `inject_sample_info`, else it is `None`.
    ///
    /// # Errors
    /// [`Error::Input`] for latents, timesteps or classes that do not fit the model or each other.
    pub fn embed(
        &self,
        latents: &Tensor,
        timesteps: &Timesteps,
        fps_class: Option<&[u32]>,
    ) -> Result<Embedded> {
        self.observed(&mut ()).embed(latents, timesteps, fps_class)
    }

    /// Runs the blocks of `range` on `hidden [B,L,D]`, which may have any float dtype. Returns
    /// `[B,L,D]` in the residual stream's dtype ([`Numerics::stream_dtype`]); so a residual `after
    /// - before` has that dtype too. An empty range returns `hidden` unchanged.
    ///
    /// # Errors
    /// [`Error::Input`] for a range outside the blocks, or tensors that do not fit each other.
    pub fn blocks(
        &self,
        range: Range<usize>,
        hidden: &Tensor,
        embedded: &Embedded,
        text: &TextContext,
        attention: Attention,
    ) -> Result<Tensor> {
        self.observed(&mut ()).blocks(range, hidden, embedded, text, attention)
    }

    /// Velocity `[B,C_out,F,H,W]` (noise minus clean sample), f32, from the output of the last
    /// block.
    ///
    /// # Errors
    /// [`Error::Input`] for `hidden` of another shape.
    pub fn head(&self, hidden: &Tensor, embedded: &Embedded) -> Result<Tensor> {
        self.observed(&mut ()).head(hidden, embedded)
    }

    /// The same stages with an observer of their intermediate tensors.
    pub fn observed<'a>(&'a self, observer: &'a mut dyn Observer) -> Observed<'a> {
        Observed { model: self, observer }
    }
}

/// A model with an observer of its intermediate tensors; see [`WanModel::observed`].
pub struct Observed<'a> {
    model: &'a WanModel,
    observer: &'a mut dyn Observer,
}

impl Observed<'_> {
    /// [`WanModel::text_context`].
    ///
    /// # Errors
    /// As there.
    pub fn text_context(&mut self, prompt_embeds: &Tensor) -> Result<TextContext> {
        self.context(prompt_embeds, None)
    }

    /// [`WanModel::context`].
    ///
    /// # Errors
    /// As there.
    pub fn context(
        &mut self,
        prompt_embeds: &Tensor,
        image_embeds: Option<&Tensor>,
    ) -> Result<TextContext> {
        let _span = tracing::debug_span!("context").entered();
        let hidden = self.model.text_embedding.forward(&prompt_embeds.to_dtype(DType::F32)?)?;
        self.observer.see(Point::TextContext, &hidden);
        let image = self.image_context(image_embeds, hidden.dim(0)?)?;
        let _rest = self.model.arithmetic.rests();
        let (blocks, mut key_values) = (&self.model.blocks, Vec::new());
        self.model.context_turns.begin().each(0..blocks.len(), |number| {
            key_values.push(blocks[number].key_values(&hidden, image.as_ref())?);
            Ok(())
        })?;
        Ok(TextContext { hidden, image, key_values })
    }

    fn image_context(&mut self, embeds: Option<&Tensor>, batch: usize) -> Result<Option<Tensor>> {
        match (&self.model.image_embedding, embeds) {
            (Some(embedding), Some(embeds)) => {
                let image = embedding.forward(&embeds.to_dtype(DType::F32)?, batch)?;
                self.observer.see(Point::ImageContext, &image);
                Ok(Some(image))
            }
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(Error::input("image_embeds", "the image the model starts from", "none"))
            }
            (None, Some(embeds)) => {
                let expected = "none: the model takes no image tokens";
                Err(Error::input("image_embeds", expected, embeds.dims()))
            }
        }
    }

    /// [`WanModel::embed`].
    ///
    /// # Errors
    /// As there.
    pub fn embed(
        &mut self,
        latents: &Tensor,
        timesteps: &Timesteps,
        fps_class: Option<&[u32]>,
    ) -> Result<Embedded> {
        let _span = tracing::debug_span!("embed").entered();
        let config = &self.model.config;
        let grid = self.model.patch_embedding.grid(latents)?;
        let (batch, entries) = (latents.dim(0)?, timesteps.entries());
        if timesteps.batch() != batch || ![1, grid.frames, grid.tokens()].contains(&entries) {
            let (frames, tokens) = (grid.frames, grid.tokens());
            let expected = format!("{batch} x 1, {frames} (frames) or {tokens} (tokens)");
            let found = format!("{} x {entries}", timesteps.batch());
            return Err(Error::input("timesteps", expected, found));
        }
        let hidden = self.model.patch_embedding.forward(&latents.to_dtype(DType::F32)?, grid)?;
        self.observer.see(Point::PatchTokens, &hidden);
        let hidden = hidden.to_dtype(self.model.numerics.stream_dtype())?;
        let (e, e0) = self.model.time_embedding.forward(timesteps, fps_class, self.observer)?;
        let (head_dim, longest) = (config.attention_head_dim, config.rope_max_seq_len);
        let rope = Rope::new(grid, head_dim, longest, latents.device())?;
        Ok(Embedded { hidden, e, e0, grid, rope })
    }

    /// [`WanModel::blocks`], observed.
    ///
    /// # Errors
    /// As there; [`Error::Stopped`] if the observer ends the pass.
    pub fn blocks(
        &mut self,
        range: Range<usize>,
        hidden: &Tensor,
        embedded: &Embedded,
        text: &TextContext,
        attention: Attention,
    ) -> Result<Tensor> {
        let count = self.model.blocks.len();
        if range.start > range.end || range.end > count {
            return Err(Error::input("blocks", format!("a range within 0..{count}"), range));
        }
        self.check_hidden(hidden, embedded)?;
        let (batch, text_batch) = (hidden.dim(0)?, text.hidden.dim(0)?);
        if batch != text_batch {
            return Err(Error::input("text", format!("a batch of {batch}"), text_batch));
        }
        let inputs =
            BlockInputs { e0: &embedded.e0, rope: &embedded.rope, grid: embedded.grid, attention };
        let pass = self.model.turns.begin();
        let _rest = self.model.arithmetic.rests();
        threads::on_worker(|| {
            let mut hidden = hidden.clone();
            pass.each(range, |number| {
                observer::check(self.observer)?;
                let _span = tracing::debug_span!("block", number).entered();
                let (block, text) = (&self.model.blocks[number], &text.key_values[number]);
                hidden = block.forward(&hidden, &inputs, text, self.observer)?;
                Ok(())
            })?;
            Ok(hidden)
        })
    }

    /// [`WanModel::head`].
    ///
    /// # Errors
    /// As there.
    pub fn head(&mut self, hidden: &Tensor, embedded: &Embedded) -> Result<Tensor> {
        let _span = tracing::debug_span!("head").entered();
        self.check_hidden(hidden, embedded)?;
        let model = self.model;
        let e = embedded.e.rows().unsqueeze(2)?; // [B,K,1,D]
        let table = embedded.e.with_rows(e.broadcast_add(&model.scale_shift_table)?)?;
        let _rest = model.arithmetic.rests();
        let (batch, tokens, _) = hidden.dims3()?;
        let [mut entering, mut projected] = [(); 2].map(|()| Assembly::new(tokens));
        for chunk in chunks(hidden.device(), batch, tokens) {
            let hidden = hidden.narrow(1, chunk.start, chunk.len())?.to_dtype(DType::F32)?;
            let own = table.of_tokens(&chunk, tokens)?;
            let eps = model.config.eps;
            let modulated =
                fused::modulated_norm(model.arithmetic.kernels(), &hidden, (&own, 0, 1), eps)?;
            projected.put(chunk.start, model.proj_out.forward(&modulated)?)?;
            if self.observer.looks() {
                entering.put(chunk.start, modulated)?;
            }
        }
        if self.observer.looks() {
            self.observer.see(Point::HeadIn, &entering.finish()?);
        }
        let projected = projected.finish()?;
        self.observer.see(Point::HeadOut, &projected);
        self.unpatchify(&projected, embedded.grid)
    }

    fn check_hidden(&self, hidden: &Tensor, embedded: &Embedded) -> Result<()> {
        if hidden.dims() == embedded.hidden.dims() {
            return Ok(());
        }
        Err(Error::input("hidden", format!("{:?}", embedded.hidden.dims()), hidden.dims()))
    }

    /// `[B,L,pt ph pw C]` to `[B,C,F,H,W]`.
    fn unpatchify(&self, projected: &Tensor, grid: Grid) -> Result<Tensor> {
        let ([pt, ph, pw], channels) =
            (self.model.config.patch_size, self.model.config.out_channels);
        let Grid { frames, height, width } = grid;
        let batch = projected.dim(0)?;
        Ok(projected
            .reshape(&[batch, frames, height, width, pt, ph, pw, channels])?
            .permute(vec![0, 7, 1, 4, 2, 5, 3, 6])? // [B,C,f,pt,h,ph,w,pw]
            .reshape((batch, channels, frames * pt, height * ph, width * pw))?)
    }
}

#[cfg(test)]
mod tests;
