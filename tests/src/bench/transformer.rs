//! Forwards of the 1.3B's shape.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use wan_model::published::find;
use wan_model::weights::Scope;
use wan_model::work::{self, Work};
use wan_model::{Attention, Numerics, ResidualStream, TextContext, Timesteps, WanConfig, WanModel};

use crate::random::{Form, Random, tensor};
use crate::row::{Goal, Made, Row};

/// Layers of the forwards, of the 30 that the model has.
pub(crate) const LAYERS: usize = 6;
/// Layers of the forwards by tokens.
pub(crate) const LAYERS_BY_TOKENS: usize = 2;
/// Tokens of the prompt, padding included.
pub(crate) const TEXT: usize = 512;
/// Latent frames of 30 rows and 52 columns, 390 tokens each: about 1, 2, 4, 8 and 16 thousand tokens.
const FRAMES: [usize; 5] = [3, 6, 12, 21, 42];

/// Size of the latents.
#[derive(Clone, Copy)]
pub(crate) struct Latents {
    pub(crate) frames: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Latents {
    pub(crate) fn tokens(self) -> usize {
        self.frames * (self.height / 2) * (self.width / 2)
    }
}

/// What a forward is computed of.
#[derive(Clone, Copy)]
pub(crate) struct Forward {
    pub(crate) layers: usize,
    pub(crate) latents: Latents,
    pub(crate) form: Form,
    pub(crate) compute: DType,
    /// A timestep for each latent frame, and a residual stream in the format of the products.
    pub(crate) is_df: bool,
}

impl Forward {
    pub(crate) fn config(self) -> WanConfig {
        let published = find("t2v-1.3B").expect("it is in published.toml");
        WanConfig { num_layers: self.layers, ..published.transformer.clone() }
    }

    pub(crate) fn numerics(self) -> Numerics {
        let stream = if self.is_df { ResidualStream::Compute } else { ResidualStream::F32 };
        Numerics { compute: self.compute, stream }
    }

    pub(crate) fn scope(self) -> Scope {
        Scope::new(Random::new(self.form), DType::F32, &Device::Cpu)
    }

    fn work(self) -> Work {
        work::evaluation(&self.config(), self.latents.tokens(), (TEXT, 0))
    }

    /// The request to torch: all that is not f32 is bf16 there.
    fn peer(self) -> String {
        let Latents { frames, height, width } = self.latents;
        let kind = if self.is_df { "df" } else { "forward" };
        let format = if self.compute == DType::F32 { "f32" } else { "bf16" };
        format!("{kind} {format} {} {frames} {height} {width}", self.layers)
    }

    pub(crate) fn load(self) -> Result<Loaded> {
        let model = WanModel::load_with(self.config(), self.scope(), self.numerics())?;
        let Latents { frames, height, width } = self.latents;
        let timesteps = match self.is_df {
            false => Timesteps::per_video(&[900.])?,
            true => {
                // 900 to 100, whole numbers.
                let last = frames.max(2) - 1;
                let of = |frame: usize| (900. - 800. * frame as f64 / last as f64).round();
                Timesteps::per_frame(&[(0..frames).map(of).collect()])?
            }
        };
        let prompt = tensor(3, &[1, TEXT, model.config().text_dim])?;
        let text = model.text_context(&prompt)?;
        let latents = tensor(4, &[1, 16, frames, height, width])?;
        Ok(Loaded { model, latents, timesteps, prompt, text })
    }
}

/// A model and what it is given.
pub(crate) struct Loaded {
    model: WanModel,
    latents: Tensor,
    timesteps: Timesteps,
    prompt: Tensor,
    text: TextContext,
}

impl Loaded {
    /// From latents to velocity; gives seconds.
    pub(crate) fn forward(&self) -> Result<f64> {
        let started = Instant::now();
        let model = &self.model;
        let embedded = model.embed(&self.latents, &self.timesteps, None)?;
        let blocks = 0..model.block_count();
        let attention = Attention::Bidirectional;
        let hidden = model.blocks(blocks, &embedded.hidden, &embedded, &self.text, attention)?;
        model.head(&hidden, &embedded)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// What is computed once a prompt; gives seconds.
    fn context(&self) -> Result<f64> {
        let started = Instant::now();
        self.model.text_context(&self.prompt)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The forwards of 6 layers.
pub(crate) fn rows(latents: Latents) -> Vec<Row> {
    let bf16 = DType::BF16;
    let plain = |form, compute| Forward { layers: LAYERS, latents, form, compute, is_df: false };
    let df = Forward { is_df: true, ..plain(Form::Bf16, bf16) };
    let mut rows = vec![
        row("forward-f32", "f32", plain(Form::F32, DType::F32), Goal::OverTorch(0.88, 0.82)),
        row("forward-bf16", "bf16", plain(Form::Bf16, bf16), Goal::OverTorch(0.80, 0.70)),
        row("df-bf16", "bf16, a timestep per latent frame", df, Goal::OverTorch(0.80, 0.70)),
        row("q4k-bf16", "Q4_K weights, bf16", plain(Form::Q4K, bf16), Goal::OverTorch(0.90, 0.80)),
        row("fp8-bf16", "fp8 weights, bf16", plain(Form::Fp8, bf16), Goal::OverTorch(0.90, 0.80)),
    ];
    let forward = plain(Form::Bf16, bf16);
    rows.push(Row {
        name: "context-bf16".into(),
        what: format!("bf16, keys and values of {TEXT} text tokens, once a prompt"),
        unit: "s",
        goal: Goal::None,
        peer: None,
        make: Box::new(move || {
            let (loaded, work) = (forward.load()?, work::context(&forward.config(), (TEXT, 0)));
            Ok(Made { pass: Box::new(move || loaded.context()), work: Some(work) })
        }),
    });
    rows
}

/// Forwards of 2 layers, by tokens.
pub(crate) fn by_tokens() -> Vec<Row> {
    let forward = |frames| Forward {
        layers: LAYERS_BY_TOKENS,
        latents: Latents { frames, height: 30, width: 52 },
        form: Form::Bf16,
        compute: DType::BF16,
        is_df: false,
    };
    let of = |frames| {
        let forward = forward(frames);
        row(&format!("tokens-{}", forward.latents.tokens()), "bf16", forward, Goal::None)
    };
    FRAMES.into_iter().map(of).collect()
}

fn row(name: &str, how: &str, forward: Forward, goal: Goal) -> Row {
    let Forward { layers, latents, .. } = forward;
    Row {
        name: name.into(),
        what: format!("{how}, {layers} layers, {} + {TEXT} tokens", latents.tokens()),
        unit: "s",
        goal,
        peer: Some(forward.peer()),
        make: Box::new(move || {
            let (loaded, work) = (forward.load()?, forward.work());
            Ok(Made { pass: Box::new(move || loaded.forward()), work: Some(work) })
        }),
    }
}
