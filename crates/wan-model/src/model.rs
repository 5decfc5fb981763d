//! The Wan transformer in three stages: [`embed`](WanModel::embed),
//! [`blocks`](WanModel::blocks), [`head`](WanModel::head).
//!
//! The caller runs the stages, so whatever wants to skip the blocks or look between them does
//! so outside the model. Source: diffusers 0.42.1 `WanTransformer3DModel`,
//! `SkyReelsV2Transformer3DModel`; Wan2.1 9737cba; SkyReels-V2 abed76f.

use std::ops::Range;

use candle_core::{DType, Module, Tensor};
use candle_nn::VarBuilder;

use crate::attention::Attention;
use crate::block::{Block, ContextKeyValue, Surroundings};
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
    scale_shift_table: Tensor,
    proj_out: Linear,
}

/// A prompt, and an image where the model takes one, as the blocks read them: computed once,
/// used in every step.
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

    /// Image embedding `[B,T,D]`, likewise; of models that take image tokens.
    pub fn image(&self) -> Option<&Tensor> {
        self.image.as_ref()
    }
}

/// What the blocks and the head need to know of latents and timesteps.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Patch tokens `[B,L,D]`: what enters the first block, in the residual stream's dtype
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
    /// Builds the model from weights under diffusers' names, f32 throughout.
    pub fn load(config: WanConfig, vb: VarBuilder) -> Result<Self> {
        Self::load_with(config, vb, Numerics::default())
    }

    /// Builds the model from weights under diffusers' names, in the formats of `numerics`. Each
    /// tensor is asked for in the format it is used in; the dtype that `vb` stands at counts for
    /// nothing.
    pub fn load_with(config: WanConfig, vb: VarBuilder, numerics: Numerics) -> Result<Self> {
        let blocks = config.num_layers;
        Self::load_blocks(config, vb, numerics, blocks)
    }

    /// The model with its embeddings and head alone: the time signals are those of the whole model,
    /// and hidden states pass through unchanged. For whoever plans and does not generate.
    pub fn load_without_blocks(
        config: WanConfig,
        vb: VarBuilder,
        numerics: Numerics,
    ) -> Result<Self> {
        Self::load_blocks(config, vb, numerics, 0)
    }

    fn load_blocks(
        config: WanConfig,
        vb: VarBuilder,
        numerics: Numerics,
        blocks: usize,
    ) -> Result<Self> {
        config.check()?;
        numerics.check()?;
        let _span = tracing::info_span!("load_transformer", layers = config.num_layers).entered();
        let (dim, [pt, ph, pw]) = (config.dim(), config.patch_size);
        let vb = vb.to_dtype(DType::F32);
        let blocks = (0..blocks)
            .map(|number| Block::load(&config, number, numerics, vb.pp("blocks").pp(number)))
            .collect::<Result<_>>()?;
        Ok(Self {
            patch_embedding: PatchEmbedding::load(&config, &vb.pp("patch_embedding"))?,
            time_embedding: TimeEmbedding::load(&config, &vb)?,
            text_embedding: TextEmbedding::load(&config, vb.clone())?,
            image_embedding: ImageEmbedding::load(&config, vb.clone())?,
            blocks,
            scale_shift_table: vb.get((1, 2, dim), "scale_shift_table")?,
            proj_out: linear(dim, pt * ph * pw * config.out_channels, vb.pp("proj_out"))?,
            config,
            numerics,
        })
    }

    /// The config the model was built from.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// Blocks that it holds: [`WanConfig::num_layers`], unless it was loaded without them.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The formats it computes in.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// As [`context`](Self::context), of a model without image tokens.
    pub fn text_context(&self, prompt_embeds: &Tensor) -> Result<TextContext> {
        self.context(prompt_embeds, None)
    }

    /// Embeddings and every block's cross-attention keys and values. `prompt_embeds` is the text
    /// encoder's output `[B,T,text_dim]`, of any float dtype as all inputs; `T` is used as it comes: padding rows are attended to,
    /// as in training. `image_embeds` is the image encoder's penultimate hidden state
    /// `[B,T',image_dim]`, or `[2B,T',image_dim]` (first and last frame of each video) where the
    /// model has positions for two images; just where [`WanConfig::takes_image_tokens`].
    pub fn context(
        &self,
        prompt_embeds: &Tensor,
        image_embeds: Option<&Tensor>,
    ) -> Result<TextContext> {
        self.observed(&mut ()).context(prompt_embeds, image_embeds)
    }

    /// Latents `[B,C,F,H,W]` and their timesteps to tokens and modulation. `fps_class` is one
    /// class a video (0 for 16 fps, 1 for others) where `inject_sample_info` is set, else none.
    pub fn embed(
        &self,
        latents: &Tensor,
        timesteps: &Timesteps,
        fps_class: Option<&[u32]>,
    ) -> Result<Embedded> {
        self.observed(&mut ()).embed(latents, timesteps, fps_class)
    }

    /// Runs the blocks of `range` on `hidden [B,L,D]`; gives `[B,L,D]` in the residual stream's
    /// dtype ([`Numerics::stream_dtype`]), so a residual `after - before` of what
    /// [`embed`](Self::embed) or an earlier range gave has it too. `hidden` may have any float
    /// dtype; the empty range gives it back as it is.
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

    /// Velocity `[B,C_out,F,H,W]` (noise minus clean), f32, from what the last block handed on.
    pub fn head(&self, hidden: &Tensor, embedded: &Embedded) -> Result<Tensor> {
        self.observed(&mut ()).head(hidden, embedded)
    }

    /// The same stages with someone looking.
    pub fn observed<'a>(&'a self, observer: &'a mut dyn Observer) -> Observed<'a> {
        Observed { model: self, observer }
    }
}

/// A model whose intermediate tensors an observer sees; see [`WanModel::observed`].
pub struct Observed<'a> {
    model: &'a WanModel,
    observer: &'a mut dyn Observer,
}

impl Observed<'_> {
    /// As [`WanModel::text_context`].
    pub fn text_context(&mut self, prompt_embeds: &Tensor) -> Result<TextContext> {
        self.context(prompt_embeds, None)
    }

    /// As [`WanModel::context`].
    pub fn context(
        &mut self,
        prompt_embeds: &Tensor,
        image_embeds: Option<&Tensor>,
    ) -> Result<TextContext> {
        let _span = tracing::debug_span!("context").entered();
        let hidden = self.model.text_embedding.forward(&prompt_embeds.to_dtype(DType::F32)?)?;
        self.observer.see(Point::TextContext, &hidden);
        let image = self.image_context(image_embeds, hidden.dim(0)?)?;
        let key_values = |block: &Block| block.key_values(&hidden, image.as_ref());
        let key_values = self.model.blocks.iter().map(key_values).collect::<Result<_>>()?;
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

    /// As [`WanModel::embed`].
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

    /// As [`WanModel::blocks`].
    ///
    /// # Errors
    /// [`Error::Stopped`] where the observer ends the pass.
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
        let surroundings =
            Surroundings { e0: &embedded.e0, rope: &embedded.rope, grid: embedded.grid, attention };
        threads::on_worker(|| {
            let mut hidden = hidden.clone();
            for number in range {
                observer::check(self.observer)?;
                let _span = tracing::debug_span!("block", number).entered();
                let (block, text) = (&self.model.blocks[number], &text.key_values[number]);
                hidden = block.forward(&hidden, &surroundings, text, self.observer)?;
            }
            Ok(hidden)
        })
    }

    /// As [`WanModel::head`].
    pub fn head(&mut self, hidden: &Tensor, embedded: &Embedded) -> Result<Tensor> {
        let _span = tracing::debug_span!("head").entered();
        self.check_hidden(hidden, embedded)?;
        let model = self.model;
        let e = embedded.e.rows().unsqueeze(2)?; // [B,K,1,D]
        let table = embedded.e.with_rows(e.broadcast_add(&model.scale_shift_table)?)?;
        let (batch, tokens, _) = hidden.dims3()?;
        let [mut entering, mut projected] = [(); 2].map(|()| Assembly::new(tokens));
        for chunk in chunks(hidden.device(), batch, tokens) {
            let hidden = hidden.narrow(1, chunk.start, chunk.len())?.to_dtype(DType::F32)?;
            let normed = fused::layer_norm(&hidden, None, model.config.eps)?;
            let modulated = fused::modulate(&normed, &table.of_tokens(&chunk, tokens)?, 0, 1)?;
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
