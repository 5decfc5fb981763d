//! Kinds `wan_transformer` and `sky_transformer`: one forward pass.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use candle_core::{DType, Tensor};
use wan_model::{
    Attention, BlockPoint, Embedded, Numerics, Observer, Point, ResidualStream, Rows, Timesteps,
    WanConfig, WanModel,
};

use super::{Case, Compare, layouts};

/// A half-precision engine's error may be this many times that of the reference in bf16.
const HALF_SLACK: f64 = 1.5;

/// Runs the forward pass of a case and compares every recorded intermediate.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let config: WanConfig = serde_json::from_value(case.config.clone())?;
    if let Some(weights) = layouts::original_weights(case)? {
        WanModel::load(config.clone(), weights)?;
    }
    let model = WanModel::load(config.clone(), case.weights()?)?;
    let mut seen = Recorder::default();
    let (embedded, velocity) = forward(case, &model, &mut seen)?;
    seen.0.insert("out.sample".to_owned(), velocity);
    seen.expand_signals(case, &embedded, per_frame(case))?;
    seen.add_tables(&embedded, attention(&model))?;
    for (name, tensor) in &seen.0 {
        if case.io.contains_key(name) {
            compare.tensor(name, tensor)?;
        }
    }
    run_in_half(case, &config, compare)
}

/// The whole model in half precision, with either residual stream, against the error that the
/// reference makes in bf16.
fn run_in_half(case: &Case, config: &WanConfig, compare: &mut Compare) -> anyhow::Result<()> {
    let reference = case.description["bf16_whole_model_nerr"].as_f64();
    let reference = reference.context("case.json has no bf16_whole_model_nerr")?;
    for compute in [DType::BF16, DType::F16] {
        for stream in [ResidualStream::F32, ResidualStream::Compute] {
            let numerics = Numerics { compute, stream };
            let model = WanModel::load_with(config.clone(), case.weights()?, numerics)?;
            let (embedded, velocity) = forward(case, &model, &mut ())?;
            ensure!(embedded.hidden.dtype() == numerics.stream_dtype(), "the stream's dtype");
            compare.half(numerics, &velocity, HALF_SLACK * reference)?;
        }
    }
    Ok(())
}

/// Embedded inputs and velocity of a case.
fn forward(
    case: &Case,
    model: &WanModel,
    observer: &mut dyn Observer,
) -> anyhow::Result<(Embedded, Tensor)> {
    let timesteps = timesteps(case.tensor("in.timestep")?, per_frame(case))?;
    let fps_class: Option<Vec<u32>> = match case.io.get("in.fps_class") {
        Some(classes) => Some(classes.to_dtype(DType::U32)?.to_vec1()?),
        None => None,
    };
    let mut observed = model.observed(observer);
    let image = case.io.get("in.encoder_hidden_states_image");
    let text = observed.context(case.tensor("in.encoder_hidden_states")?, image)?;
    let latents = case.tensor("in.hidden_states")?;
    let embedded = observed.embed(latents, &timesteps, fps_class.as_deref())?;
    let all = 0..model.config().num_layers;
    let hidden = &embedded.hidden;
    let hidden = observed.blocks(all, hidden, &embedded, &text, attention(model))?;
    let velocity = observed.head(&hidden, &embedded)?;
    Ok((embedded, velocity))
}

fn attention(model: &WanModel) -> Attention {
    Attention::BlockCausal(model.config().num_frame_per_block)
}

fn per_frame(case: &Case) -> bool {
    case.description["enable_diffusion_forcing"].as_bool().unwrap_or(false)
}

/// `[B]` is one timestep a video; `[B,n]` one a frame or one a token.
fn timesteps(recorded: &Tensor, per_frame: bool) -> anyhow::Result<Timesteps> {
    let recorded = recorded.to_dtype(DType::F64)?;
    Ok(match recorded.rank() {
        1 => Timesteps::per_video(&recorded.to_vec1()?)?,
        _ if per_frame => Timesteps::per_frame(&recorded.to_vec2()?)?,
        _ => Timesteps::per_token(&recorded.to_vec2()?)?,
    })
}

/// Intermediates under the names the case files use.
#[derive(Default)]
struct Recorder(HashMap<String, Tensor>);

impl Observer for Recorder {
    fn see(&mut self, point: Point, tensor: &Tensor) {
        let name = match point {
            Point::PatchTokens => "mid.patch_tokens".to_owned(),
            Point::TimeSinusoid => "mid.time_sinusoid".to_owned(),
            Point::TimeEmbedding => "mid.e".to_owned(),
            Point::TimeProjection => "mid.e0".to_owned(),
            Point::TextContext => "mid.text_ctx".to_owned(),
            Point::ImageContext => "mid.image_ctx".to_owned(),
            Point::HeadIn => "mid.head_in".to_owned(),
            Point::HeadOut => "mid.head_out".to_owned(),
            Point::TextHidden(layer) | Point::ImageHidden(layer) | Point::VaeHidden(layer) => {
                format!("mid.hidden_{layer}")
            }
            Point::Block(number, BlockPoint::Out) => format!("mid.block{number}_out"),
            Point::Block(number, point) => {
                let point = match point {
                    BlockPoint::Norm1 => "norm1",
                    BlockPoint::Attn1Query => "attn1_q_normed",
                    BlockPoint::Attn1Key => "attn1_k_normed",
                    BlockPoint::Attn1 => "attn1",
                    BlockPoint::Norm2 => "norm2",
                    BlockPoint::Attn2 => "attn2",
                    BlockPoint::Ffn | BlockPoint::Out => "ffn",
                };
                format!("mid.block{number}.{point}")
            }
        };
        self.0.insert(name, tensor.clone());
    }
}

impl Recorder {
    /// The references hold the signals per entry or per token; we hold distinct rows.
    fn expand_signals(
        &mut self,
        case: &Case,
        embedded: &Embedded,
        per_frame: bool,
    ) -> anyhow::Result<()> {
        for name in ["mid.time_sinusoid", "mid.e", "mid.e0"] {
            let rows = self.0.remove(name).with_context(|| format!("{name} was not seen"))?;
            let by_entry = embedded.e.with_rows(rows)?.gather()?; // [B,n,..]
            if let Some(recorded) = case.io.get(name) {
                self.0.insert(name.to_owned(), by_entry.reshape(recorded.dims())?);
            }
        }
        let block_e0 = match (embedded.e0.entries(), per_frame) {
            (1, false) => embedded.e0.gather()?.squeeze(1)?, // [B,6,D]
            (_, true) => by_token(&embedded.e0, embedded)?.transpose(1, 2)?, // [B,6,L,D]
            (_, false) => by_token(&embedded.e0, embedded)?, // [B,L,6,D]
        };
        self.0.insert("mid.block_e0".to_owned(), block_e0);
        self.0.insert("mid.e_expanded".to_owned(), by_token(&embedded.e, embedded)?);
        Ok(())
    }

    /// Rotary tables with each angle twice, and the dense mask.
    fn add_tables(&mut self, embedded: &Embedded, attention: Attention) -> anyhow::Result<()> {
        for (name, table) in [("cos", &embedded.rope.cos), ("sin", &embedded.rope.sin)] {
            let twice = Tensor::stack(&[table, table], 2)?.flatten_from(1)?; // [L,head_dim]
            self.0.insert(format!("mid.rope_{name}"), twice);
        }
        let (grid, per_frame) = (embedded.grid, embedded.grid.frame_tokens());
        let mut mask = Vec::with_capacity(grid.tokens() * grid.tokens());
        for query in 0..grid.tokens() {
            let seen = attention.visible_frames(query / per_frame, grid.frames);
            mask.extend((0..grid.tokens()).map(|key| i64::from(seen.contains(&(key / per_frame)))));
        }
        let mask = Tensor::from_vec(mask, (grid.tokens(), grid.tokens()), table_device(embedded))?;
        self.0.insert("mid.attn_mask".to_owned(), mask);
        Ok(())
    }
}

fn table_device(embedded: &Embedded) -> &candle_core::Device {
    embedded.rope.cos.device()
}

/// `[B,K,..]` rows repeated for every token, `[B,L,..]`.
fn by_token(rows: &Rows, embedded: &Embedded) -> anyhow::Result<Tensor> {
    let tokens = embedded.grid.tokens();
    let repeat = tokens / rows.entries();
    let index: Vec<Vec<u32>> = (0..rows.rows().dim(0)?)
        .map(|b| (0..tokens).map(|token| rows.index(b)[token / repeat]).collect())
        .collect();
    Ok(Rows::new(rows.rows().clone(), index.into())?.gather()?)
}
