//! A forward pass ends where its observer says so, and not one layer later.

use std::cell::Cell;

use candle_core::{DType, Device, Tensor};
use wan_model::clip::{ClipVision, ClipVisionConfig};
use wan_model::published::find;
use wan_model::umt5::{Umt5Config, Umt5Encoder};
use wan_model::vae::{Vae, VaeConfig};
use wan_model::weights::{Scope, Source, Weight};
use wan_model::{
    Attention, BlockPoint, Error, Observer, Point, Result, Timesteps, WanConfig, WanModel,
};

/// Counts layers, and ends the pass at one of them.
struct StopsAt {
    layer: usize,
    /// Layers that were shown: what enters an encoder's layer, what leaves a transformer's block.
    shown: usize,
    asked: Cell<usize>,
}

impl StopsAt {
    fn layer(layer: usize) -> Self {
        Self { layer, shown: 0, asked: Cell::new(0) }
    }
}

impl Observer for StopsAt {
    fn see(&mut self, point: Point, _: &Tensor) {
        let number = match point {
            Point::TextHidden(number) | Point::ImageHidden(number) | Point::VaeHidden(number) => {
                number
            }
            Point::Block(number, BlockPoint::Out) => number,
            _ => return,
        };
        assert_eq!(number, self.shown, "in order");
        self.shown += 1;
    }

    fn stops(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.shown > self.layer
    }
}

/// Runs a network to its end, and then stops it at every layer that has another one after it.
fn check<T>(run: impl Fn(&mut dyn Observer) -> Result<T>) -> usize {
    let mut whole = StopsAt::layer(usize::MAX);
    assert!(run(&mut whole).is_ok());
    assert!(whole.shown > 2, "{} layers show nothing", whole.shown);
    for layer in 0..whole.shown - 1 {
        let mut stopping = StopsAt::layer(layer);
        assert!(matches!(run(&mut stopping), Err(Error::Stopped)), "layer {layer}");
        assert_eq!(stopping.shown, layer + 1, "another layer ran");
    }
    whole.asked.get()
}

/// Zeros for every name and shape.
struct Zeros;

impl Source for Zeros {
    fn get(&self, _: &str, shape: &[usize]) -> Result<Weight, Error> {
        Ok(Weight::Dense(zero(shape)))
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

fn zeros() -> Scope {
    Scope::new(Zeros, DType::F32, &Device::Cpu)
}

fn zero(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn the_text_encoder_stops_between_layers() {
    let config = Umt5Config {
        vocab_size: 4,
        d_model: 6,
        d_kv: 4,
        d_ff: 8,
        num_layers: 4,
        num_heads: 2,
        ..Umt5Config::xxl()
    };
    let encoder = Umt5Encoder::load(config, zeros()).unwrap();
    let ids = Tensor::ones((1, 3), DType::U32, &Device::Cpu).unwrap();
    let asked = check(|observer| encoder.prompt_embeds_observed(&ids, &ids, observer));
    assert_eq!(asked, 4);
}

#[test]
fn the_image_encoder_stops_between_layers() {
    let config = ClipVisionConfig {
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 5,
        num_attention_heads: 2,
        image_size: 6,
        patch_size: 3,
        ..ClipVisionConfig::vit_h_14()
    };
    let encoder = ClipVision::load(config, zeros()).unwrap();
    let asked = check(|observer| encoder.penultimate_observed(&zero(&[1, 3, 6, 6]), observer));
    assert_eq!(asked, 4, "the last layer is not run");
}

#[test]
fn the_vae_stops_between_layers_of_a_chunk_and_within_a_level() {
    let plain = VaeConfig {
        base_dim: 4,
        z_dim: 2,
        dim_mult: vec![1, 2, 2],
        num_res_blocks: 1,
        temperal_downsample: vec![false, true],
        scale_factor_temporal: 2,
        scale_factor_spatial: 4,
        latents_mean: vec![0.; 2],
        latents_std: vec![1.; 2],
        ..VaeConfig::wan_2_1()
    };
    let levels = VaeConfig {
        decoder_base_dim: Some(4),
        is_residual: true,
        in_channels: 12,
        out_channels: 12,
        patch_size: Some(2),
        scale_factor_spatial: 8,
        ..plain.clone()
    };
    let layers = [plain, levels].map(|config| {
        let vae = Vae::load(config, zeros()).unwrap();
        let (frame, latent) = (zero(&[1, 3, 1, 16, 16]), zero(&[1, 2, 1, 2, 2]));
        let encode = check(|observer| vae.encoder().next_observed(&frame, observer));
        let decode = check(|observer| vae.decoder().next_observed(&latent, observer));
        (encode, decode)
    });
    // A middle of three layers; three levels of one residual layer (of two in the decoder) and the
    // two changes of resolution. What Wan 2.2 has as levels counts as one layer more, each.
    assert_eq!(layers[0], (3 + 3 + 2, 3 + 6 + 2));
    assert_eq!(layers[1], (layers[0].0 + 3, layers[0].1 + 2));
}

#[test]
fn the_transformer_stops_between_blocks() {
    let config = WanConfig {
        num_attention_heads: 2,
        attention_head_dim: 12,
        text_dim: 8,
        freq_dim: 16,
        ffn_dim: 32,
        num_layers: 4,
        ..find("t2v-1.3B").unwrap().transformer.clone()
    };
    let model = WanModel::load(config, zeros()).unwrap();
    let text = model.text_context(&zero(&[1, 3, 8])).unwrap();
    let timesteps = Timesteps::per_video(&[500.0]).unwrap();
    let embedded = model.embed(&zero(&[1, 16, 1, 4, 4]), &timesteps, None).unwrap();
    let asked = check(|observer| {
        let (hidden, attention) = (&embedded.hidden, Attention::Bidirectional);
        model.observed(observer).blocks(0..4, hidden, &embedded, &text, attention)
    });
    assert_eq!(asked, 4);
}
