//! The vision model of CLIP. Its penultimate hidden state is the image condition of Wan 2.1 and
//! SkyReels-V2 I2V.
//!
//! The published model is open-clip's ViT-H/14 trained with XLM-RoBERTa, under the names of
//! transformers 5.23.0 `CLIPVisionModel` (with its `pre_layrnorm`). candle-transformers' `clip` has
//! only quick GELU, where this model needs the exact GELU, and layer norms that lose digits (see
//! `fused`). So the transformer is written here.

use crate::weights::{Scope, Turns};
use candle_core::Tensor;

use wan_kernels::Kernels;

use crate::arithmetic::Arithmetic;
use crate::attention::Heads;
use crate::bicubic;
use crate::error::{Error, Result};
use crate::finite;
use crate::fused;
use crate::linear::{Linear, linear};
use crate::observer::{self, Observer, Point};
use crate::threads;

mod config;

pub use config::{Activation, ClipVisionConfig};

impl Activation {
    fn forward(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Gelu => fused::gelu(x),
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
        }
    }
}

/// How a picture is resized to CLIP's square input; the references differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resizing {
    /// Resizes the short side to that of the square, antialiased and rounded to 8 bits, and cuts
    /// out the middle: transformers' `CLIPImageProcessor`, which diffusers' pipelines use.
    Crop,
    /// Resizes both sides to those of the square, without antialiasing: Wan2.1 9737cba
    /// `wan/modules/clip.py`, SkyReels-V2 abed76f.
    Squash,
}

/// Pictures `[B,3,H,W]` in 0..=1 to CLIP's input `[B,3,size,size]`, f32: resized (bicubic), then
/// normalised by mean and standard deviation per colour.
///
/// # Errors
/// [`Error::Input`] for another shape.
pub fn preprocess(pictures: &Tensor, size: usize, resizing: Resizing) -> Result<Tensor> {
    const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
    const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
    let (height, width) = match *pictures.dims() {
        [_, 3, height, width] if height > 0 && width > 0 => (height, width),
        _ => return Err(Error::input("pictures", "[B,3,H,W]", pictures.dims())),
    };
    let square = match resizing {
        Resizing::Squash => bicubic::resize(pictures, (size, size), false)?,
        Resizing::Crop => {
            let short = height.min(width);
            let (height, width) = (size * height / short, size * width / short);
            let resized = bicubic::resize(pictures, (height, width), true)?;
            let resized = resized.narrow(2, (height - size) / 2, size)?;
            let resized = resized.narrow(3, (width - size) / 2, size)?;
            ((resized.clamp(0f32, 1f32)? * 255.)?.round()? / 255.)?
        }
    };
    let by_colour =
        |numbers: &[f32]| Tensor::new(numbers, square.device())?.reshape((1, numbers.len(), 1, 1));
    Ok(square.broadcast_sub(&by_colour(&MEAN)?)?.broadcast_div(&by_colour(&STD)?)?)
}

/// A CLIP vision transformer. Immutable.
pub struct ClipVision {
    config: ClipVisionConfig,
    /// `[C p p, D]`, without a bias.
    patch_embedding: Linear,
    /// `[D]`.
    class_embedding: Tensor,
    /// `[tokens, D]`.
    position_embedding: Tensor,
    pre_layrnorm: Norm,
    layers: Vec<Layer>,
    turns: Turns,
    arithmetic: Arithmetic,
}

impl ClipVision {
    /// Builds the encoder from weights under transformers' names. The last norm and the projection
    /// are not read, because only hidden states are used.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that fits no model, and errors of missing or misshaped
    /// tensors.
    pub fn load(config: ClipVisionConfig, scope: Scope) -> Result<Self> {
        config.check()?;
        let layers = config.num_hidden_layers;
        let _span = tracing::info_span!("load_image_encoder", layers).entered();
        let scope = scope.pp("vision_model");
        let (embeddings, width, p) =
            (scope.pp("embeddings"), config.hidden_size, config.patch_size);
        let patches = embeddings.pp("patch_embedding");
        let patches = patches.matrix((width, config.num_channels, p, p), "weight")?;
        let positions = embeddings.pp("position_embedding");
        let turns = scope.turns(layers)?;
        Ok(Self {
            patch_embedding: Linear::new(patches, None),
            class_embedding: embeddings.get(width, "class_embedding")?,
            position_embedding: positions.get((config.tokens(), width), "weight")?,
            pre_layrnorm: Norm::load(&config, scope.pp("pre_layrnorm"))?,
            layers: (0..layers)
                .map(|number| {
                    let layer = scope.pp("encoder").pp("layers").pp(number);
                    Layer::load(&config, layer.in_turn(&turns, number))
                })
                .collect::<Result<_>>()?,
            turns,
            arithmetic: scope.arithmetic().clone(),
            config,
        })
    }

    /// The config the encoder was built from.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Bytes of weights that come and go with their turns, at most at a time.
    pub fn turn_bytes_max(&self) -> u64 {
        self.turns.bytes_max()
    }

    /// The hidden state before the last layer, `[B,tokens,D]`, of preprocessed pictures
    /// `[B,3,S,S]`: the input of the video transformer. The last layer is not run.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
    pub fn penultimate(&self, pixel_values: &Tensor) -> Result<Tensor> {
        self.penultimate_observed(pixel_values, &mut ())
    }

    /// As [`penultimate`](Self::penultimate), with the hidden state before each layer shown.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the observer ends the pass, [`Error::NotFinite`].
    pub fn penultimate_observed(
        &self,
        pixel_values: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let hidden = self.run(pixel_values, self.layers.len() - 1, observer)?;
        finite::checked("the image encoder", hidden)
    }

    /// Preprocessed pictures `[B,3,S,S]` to the last hidden state `[B,tokens,D]`. The observer sees
    /// the hidden state before each layer.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape.
    pub fn forward_observed(
        &self,
        pixel_values: &Tensor,
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        self.run(pixel_values, self.layers.len(), observer)
    }

    fn run(&self, pixels: &Tensor, layers: usize, observer: &mut dyn Observer) -> Result<Tensor> {
        let _span = tracing::debug_span!("image_encoder").entered();
        let _rest = self.arithmetic.rests();
        let pass = self.turns.begin();
        threads::on_worker(|| {
            let mut hidden = self.pre_layrnorm.forward(&self.embed(pixels)?)?;
            pass.each(0..layers, |number| {
                observer.see(Point::ImageHidden(number), &hidden);
                observer::check(observer)?;
                let _span = tracing::debug_span!("image_layer", number).entered();
                hidden = self.layers[number].forward(&hidden)?;
                Ok(())
            })?;
            Ok(hidden)
        })
    }

    /// `[B,C,S,S]` to `[B,tokens,D]`: the class token, then the patches row by row.
    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let ClipVisionConfig { num_channels, image_size, patch_size: p, hidden_size, .. } =
            self.config;
        let batch = match *pixels.dims() {
            [b, c, h, w] if [c, h, w] == [num_channels, image_size, image_size] => b,
            _ => {
                let expected = format!("[B,{num_channels},{image_size},{image_size}]");
                return Err(Error::input("pixel_values", expected, pixels.dims()));
            }
        };
        let side = image_size / p;
        let patches = pixels
            .reshape(&[batch, num_channels, side, p, side, p])?
            .permute(vec![0, 2, 4, 1, 3, 5])? // [B,row,column,C,p,p]
            .reshape((batch, side * side, num_channels * p * p))?;
        let patches = self.patch_embedding.forward(&patches)?; // [B,N,D]
        let class = self.class_embedding.reshape((1, 1, hidden_size))?;
        let class = class.broadcast_as((batch, 1, hidden_size))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?;
        Ok(tokens.broadcast_add(&self.position_embedding)?)
    }
}

/// An affine layer norm.
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    kernels: Kernels,
}

impl Norm {
    fn load(config: &ClipVisionConfig, scope: Scope) -> Result<Self> {
        let width = config.hidden_size;
        let (weight, bias) = (scope.get(width, "weight")?, scope.get(width, "bias")?);
        let kernels = scope.arithmetic().kernels();
        Ok(Self { weight, bias, eps: config.layer_norm_eps, kernels })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        fused::layer_norm(self.kernels, x, Some((&self.weight, &self.bias)), self.eps)
    }
}

struct Layer {
    layer_norm1: Norm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    layer_norm2: Norm,
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
    arithmetic: Arithmetic,
}

impl Layer {
    fn load(config: &ClipVisionConfig, scope: Scope) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let (attention, mlp) = (scope.pp("self_attn"), scope.pp("mlp"));
        Ok(Self {
            layer_norm1: Norm::load(config, scope.pp("layer_norm1"))?,
            q_proj: linear(width, width, attention.pp("q_proj"))?,
            k_proj: linear(width, width, attention.pp("k_proj"))?,
            v_proj: linear(width, width, attention.pp("v_proj"))?,
            out_proj: linear(width, width, attention.pp("out_proj"))?,
            heads: config.num_attention_heads,
            layer_norm2: Norm::load(config, scope.pp("layer_norm2"))?,
            fc1: linear(width, inner, mlp.pp("fc1"))?,
            activation: config.hidden_act,
            fc2: linear(inner, width, mlp.pp("fc2"))?,
            arithmetic: scope.arithmetic().clone(),
        })
    }

    /// `[B,tokens,D]` to `[B,tokens,D]`.
    fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let normed = self.layer_norm1.forward(hidden)?;
        let head_dim = hidden.dim(2)? / self.heads;
        let query = (self.q_proj.forward(&normed)? * (1. / (head_dim as f64).sqrt()))?;
        let (key, value) = (self.k_proj.forward(&normed)?, self.v_proj.forward(&normed)?);
        let heads = Heads { query: &query, key: &key, value: &value, heads: self.heads };
        let (attended, kernels) = (heads.attend_all(&self.arithmetic)?, self.arithmetic.kernels());
        let hidden = fused::add(kernels, hidden, &self.out_proj.forward(&attended)?)?;
        let inner = self.fc1.forward(&self.layer_norm2.forward(&hidden)?)?;
        let fed = self.fc2.forward(&self.activation.forward(&inner)?)?;
        Ok(fused::add(kernels, &hidden, &fed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{any_weights, distance, noise, numbers};
    use candle_core::Device;

    fn tiny(hidden_act: Activation) -> ClipVisionConfig {
        ClipVisionConfig {
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 3,
            num_attention_heads: 2,
            image_size: 6,
            patch_size: 3,
            hidden_act,
            ..ClipVisionConfig::vit_h_14()
        }
    }

    #[test]
    fn the_penultimate_state_is_what_the_last_layer_sees() {
        struct Last(Option<Tensor>);
        impl Observer for Last {
            fn see(&mut self, point: Point, tensor: &Tensor) {
                if point == Point::ImageHidden(2) {
                    self.0 = Some(tensor.clone());
                }
            }
        }
        for activation in [Activation::Gelu, Activation::QuickGelu] {
            let clip = ClipVision::load(tiny(activation), any_weights(1)).unwrap();
            let (pixels, mut seen) = (noise(1, &[2, 3, 6, 6]), Last(None));
            let last = clip.forward_observed(&pixels, &mut seen).unwrap();
            let penultimate = clip.penultimate(&pixels).unwrap();
            assert_eq!(penultimate.dims(), [2, clip.config().tokens(), 8]);
            assert_eq!(numbers(&penultimate), numbers(&seen.0.unwrap()));
            assert!(distance(&penultimate, &last) > 1e-3);
        }
    }

    #[test]
    fn pictures_of_another_size_are_refused() {
        let clip = ClipVision::load(tiny(Activation::Gelu), any_weights(1)).unwrap();
        assert!(clip.penultimate(&noise(1, &[1, 3, 6, 7])).is_err());
        assert!(preprocess(&noise(2, &[1, 4, 6, 6]), 6, Resizing::Crop).is_err());
        let odd = ClipVisionConfig { patch_size: 4, ..tiny(Activation::Gelu) };
        assert!(odd.check().unwrap_err().to_string().contains("patch_size"));
        assert_eq!(ClipVisionConfig::vit_h_14().tokens(), 257);
    }

    #[test]
    fn a_wide_picture_is_cropped_or_squashed() {
        // Left half black, right half white, twice as wide as high.
        let row = |pixel: usize| if pixel < 8 { 0f32 } else { 1. };
        let picture: Vec<f32> = (0..3 * 8 * 16).map(|pixel| row(pixel % 16)).collect();
        let picture = Tensor::from_vec(picture, (1, 3, 8, 16), &Device::Cpu).unwrap();
        let (black, white) = (-1.792_262_5, 1.930_336_3);
        for resizing in [Resizing::Crop, Resizing::Squash] {
            let square = preprocess(&picture, 8, resizing).unwrap();
            assert_eq!(square.dims(), [1, 3, 8, 8]);
            let red = &numbers(&square)[..8];
            // Either way the edge stays in the middle.
            assert!(red[..3].iter().all(|pixel| (pixel - black).abs() < 0.3), "{red:?}");
            assert!(red[5..].iter().all(|pixel| (pixel - white).abs() < 0.3), "{red:?}");
        }
        // The same height: columns 4 to 11 as they are.
        let cropped = numbers(&preprocess(&picture, 8, Resizing::Crop).unwrap());
        assert!((cropped[3] - black).abs() < 1e-5 && (cropped[4] - white).abs() < 1e-5);
    }
}
