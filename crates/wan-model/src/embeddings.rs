//! The embeddings before the first block: patches, timesteps, text, image and frame rate, to width
//! D.
//!
//! Source: diffusers 0.42.1 `WanTimeTextImageEmbedding`, `SkyReelsV2Transformer3DModel`.

use crate::weights::Scope;
use candle_core::{Device, Module, Tensor};
use candle_transformers::models::with_tracing::Embedding;
use wan_kernels::{Activation, Kernels};

use crate::config::WanConfig;
use crate::error::{Error, Result};
use crate::fused;
use crate::linear::{Linear, linear};
use crate::observer::{Observer, Point};
use crate::rope::Grid;
use crate::rows::Rows;
use crate::timesteps::Timesteps;

/// A convolution with kernel equal to stride, computed as a matrix product over patches.
pub(crate) struct PatchEmbedding {
    projection: Linear,
    patch: [usize; 3],
    channels: usize,
}

impl PatchEmbedding {
    pub(crate) fn load(config: &WanConfig, scope: &Scope) -> Result<Self> {
        let ([pt, ph, pw], channels) = (config.patch_size, config.in_channels);
        // [D, C pt ph pw]
        let weight = scope.matrix((config.dim(), channels, pt, ph, pw), "weight")?;
        let projection = Linear::new(weight, Some(scope.get(config.dim(), "bias")?));
        Ok(Self { projection, patch: config.patch_size, channels })
    }

    /// Tokens of latents `[B,C,F,H,W]`.
    pub(crate) fn grid(&self, latents: &Tensor) -> Result<Grid> {
        let [pt, ph, pw] = self.patch;
        match *latents.dims() {
            [_, channels, frames, height, width]
                if channels == self.channels
                    && frames % pt == 0
                    && height % ph == 0
                    && width % pw == 0
                    && latents.elem_count() > 0 =>
            {
                Ok(Grid { frames: frames / pt, height: height / ph, width: width / pw })
            }
            _ => {
                let channels = self.channels;
                let expected = format!("[B,{channels},F,H,W] in patches of {:?}", self.patch);
                Err(Error::input("latents", expected, latents.dims()))
            }
        }
    }

    /// `[B,C,F,H,W]` to tokens `[B,L,D]`, frame by frame, row by row.
    pub(crate) fn forward(&self, latents: &Tensor, grid: Grid) -> Result<Tensor> {
        let ([pt, ph, pw], batch) = (self.patch, latents.dim(0)?);
        let Grid { frames, height, width } = grid;
        let patches = latents
            .reshape(&[batch, self.channels, frames, pt, height, ph, width, pw])?
            .permute(vec![0, 2, 4, 6, 1, 3, 5, 7])? // [B,f,h,w,C,pt,ph,pw]
            .reshape((batch, grid.tokens(), self.channels * pt * ph * pw))?; // [B,L,C pt ph pw]
        self.projection.forward(&patches)
    }
}

/// Timesteps to the time embedding `e` and the time projection `e0`.
pub(crate) struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    projection: Linear,
    freq_dim: usize,
    device: Device,
    frame_rate: Option<FrameRateEmbedding>,
}

impl TimeEmbedding {
    /// `scope` is the root of the model: the frame-rate weights are beside the condition embedder.
    pub(crate) fn load(config: &WanConfig, scope: &Scope) -> Result<Self> {
        let (dim, freq_dim) = (config.dim(), config.freq_dim);
        let condition = scope.pp("condition_embedder");
        let time = condition.pp("time_embedder");
        let frame_rate = config.inject_sample_info.then(|| FrameRateEmbedding::load(dim, scope));
        Ok(Self {
            linear_1: linear(freq_dim, dim, time.pp("linear_1"))?,
            linear_2: linear(dim, dim, time.pp("linear_2"))?,
            projection: linear(dim, 6 * dim, condition.pp("time_proj"))?,
            freq_dim,
            device: scope.device().clone(),
            frame_rate: frame_rate.transpose()?,
        })
    }

    /// `e [B,K,D]` and `e0 [B,K,6,D]`.
    pub(crate) fn forward(
        &self,
        timesteps: &Timesteps,
        fps_class: Option<&[u32]>,
        observer: &mut dyn Observer,
    ) -> Result<(Rows, Rows)> {
        let sinusoid = timesteps.sinusoid(self.freq_dim, &self.device)?;
        observer.see(Point::TimeSinusoid, sinusoid.rows());
        let e = self.linear_2.forward(&self.linear_1.forward(sinusoid.rows())?.silu()?)?;
        observer.see(Point::TimeEmbedding, &e);
        let (batch, distinct, dim) = e.dims3()?;
        let e0 = self.projection.forward(&e.silu()?)?.reshape((batch, distinct, 6, dim))?;
        observer.see(Point::TimeProjection, &e0);
        let e0 = match (&self.frame_rate, fps_class) {
            (Some(frame_rate), Some(classes)) => {
                e0.broadcast_add(&frame_rate.forward(classes, batch)?)?
            }
            (None, None) => e0,
            (Some(_), None) => return Err(Error::input("fps_class", "one class a video", "none")),
            (None, Some(classes)) => {
                return Err(Error::input("fps_class", "none: a model without it", classes));
            }
        };
        Ok((sinusoid.with_rows(e)?, sinusoid.with_rows(e0)?))
    }
}

/// The frame rate as a condition: class 0 is 16 fps, class 1 any other (SkyReels-V2 abed76f).
struct FrameRateEmbedding {
    embedding: Embedding,
    linear_1: Linear,
    linear_2: Linear,
}

impl FrameRateEmbedding {
    const CLASSES: usize = 2;

    fn load(dim: usize, scope: &Scope) -> Result<Self> {
        let projection = scope.pp("fps_projection").pp("net");
        Ok(Self {
            embedding: Embedding::from_weights(
                scope.pp("fps_embedding").get((Self::CLASSES, dim), "weight")?,
            )?,
            linear_1: linear(dim, dim, projection.pp(0).pp("proj"))?,
            linear_2: linear(dim, 6 * dim, projection.pp(2))?,
        })
    }

    /// `[B,1,6,D]`, added to every row of `e0`.
    fn forward(&self, classes: &[u32], batch: usize) -> Result<Tensor> {
        if classes.len() != batch || classes.iter().any(|c| *c as usize >= Self::CLASSES) {
            let expected = format!("{batch} classes, each 0 (16 fps) or 1");
            return Err(Error::input("fps_class", expected, classes));
        }
        let classes = Tensor::new(classes, self.embedding.embeddings().device())?;
        let rows = self.linear_1.forward(&self.embedding.forward(&classes)?)?.silu()?; // [B,D]
        let dim = rows.dim(1)?;
        Ok(self.linear_2.forward(&rows)?.reshape((batch, 1, 6, dim))?)
    }
}

/// Text encoder output to the width of the model.
pub(crate) struct TextEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    text_dim: usize,
}

impl TextEmbedding {
    pub(crate) fn load(config: &WanConfig, scope: Scope) -> Result<Self> {
        let scope = scope.pp("condition_embedder").pp("text_embedder");
        let (text_dim, dim) = (config.text_dim, config.dim());
        Ok(Self {
            linear_1: linear(text_dim, dim, scope.pp("linear_1"))?,
            linear_2: linear(dim, dim, scope.pp("linear_2"))?,
            text_dim,
        })
    }

    /// `[B,T,text_dim]` to `[B,T,D]`.
    pub(crate) fn forward(&self, prompt_embeds: &Tensor) -> Result<Tensor> {
        match *prompt_embeds.dims() {
            [_, _, width] if width == self.text_dim => {}
            _ => {
                let expected = format!("[B,T,{}]", self.text_dim);
                return Err(Error::input("prompt_embeds", expected, prompt_embeds.dims()));
            }
        }
        let inner = self.linear_1.forward_activated(prompt_embeds, Activation::GeluTanh)?;
        self.linear_2.forward(&inner)
    }
}

/// Image encoder output to the width of the model.
///
/// ```text
/// norm2(W_2 gelu(W_1 norm1(x + positions)))      exact GELU, affine norms of eps 1e-5
/// ```
pub(crate) struct ImageEmbedding {
    /// Learned positions `[1,N,image_dim]` over the tokens of two images.
    pos_embed: Option<Tensor>,
    norm1: (Tensor, Tensor),
    ff_in: Linear,
    ff_out: Linear,
    norm2: (Tensor, Tensor),
    image_dim: usize,
    kernels: Kernels,
}

impl ImageEmbedding {
    /// PyTorch's default; the config's epsilon applies to other norms only.
    const EPS: f64 = 1e-5;

    /// `None` for a model without image tokens.
    pub(crate) fn load(config: &WanConfig, scope: Scope) -> Result<Option<Self>> {
        let Some(image_dim) = config.image_dim else { return Ok(None) };
        let scope = scope.pp("condition_embedder").pp("image_embedder");
        let net = scope.pp("ff").pp("net");
        let norm = |width: usize, scope: Scope| -> Result<_> {
            Ok((scope.get(width, "weight")?, scope.get(width, "bias")?))
        };
        let positions = config.pos_embed_seq_len;
        Ok(Some(Self {
            pos_embed: positions
                .map(|tokens| scope.get((1, tokens, image_dim), "pos_embed"))
                .transpose()?,
            norm1: norm(image_dim, scope.pp("norm1"))?,
            ff_in: linear(image_dim, image_dim, net.pp(0).pp("proj"))?,
            ff_out: linear(image_dim, config.dim(), net.pp(2))?,
            norm2: norm(config.dim(), scope.pp("norm2"))?,
            image_dim,
            kernels: scope.arithmetic().kernels(),
        }))
    }

    /// `[B,T,image_dim]` to `[B,T,D]`. A model with positions joins the tokens of two images:
    /// `[2B,T,image_dim]` to `[B,2T,D]`.
    pub(crate) fn forward(&self, image_embeds: &Tensor, batch: usize) -> Result<Tensor> {
        let width = self.image_dim;
        let placed = match (&self.pos_embed, image_embeds.dims()) {
            (None, [b, _, w]) if (*b, *w) == (batch, width) => image_embeds.clone(),
            (Some(positions), [b, tokens, w])
                if (*b, *w) == (2 * batch, width) && 2 * tokens == positions.dims()[1] =>
            {
                let joined = image_embeds.reshape((batch, 2 * tokens, width))?;
                joined.broadcast_add(positions)?
            }
            (positions, found) => {
                let expected = match positions {
                    Some(table) => format!("[{},{},{width}]", 2 * batch, table.dims()[1] / 2),
                    None => format!("[{batch},T,{width}]"),
                };
                return Err(Error::input("image_embeds", expected, found));
            }
        };
        let affine = |(weight, bias): &(Tensor, Tensor), x: &Tensor| {
            fused::layer_norm(self.kernels, x, Some((weight, bias)), Self::EPS)
        };
        let inner = self.ff_in.forward(&affine(&self.norm1, &placed)?)?;
        let projected = self.ff_out.forward(&fused::gelu(&inner)?)?;
        Ok(affine(&self.norm2, &projected)?)
    }
}
