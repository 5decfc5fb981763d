//! One forward pass of a network on given inputs: to see that a file is read right.
//!
//! Inputs and outputs have the names of diffusers' and transformers' arguments, behind `in.` and
//! `out.`, as in recorded reference passes.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::network::Network;
use crate::attention::Attention;
use crate::clip::ClipVision;
use crate::error::{Error, Result};
use crate::model::WanModel;
use crate::timesteps::Timesteps;
use crate::umt5::Umt5Encoder;
use crate::vae::Vae;
use crate::weights::{Scope, WeightFile, read_tensor};

/// The inputs of a forward pass, by name.
struct Inputs<'a> {
    file: &'a WeightFile,
    scope: &'a Scope,
}

impl Inputs<'_> {
    fn find(&self, name: &str) -> Result<Option<Tensor>> {
        let number = self.file.find(&format!("in.{name}"));
        let tensor = number.map(|number| read_tensor(self.file, number)).transpose()?;
        tensor.map(|tensor| Ok(tensor.to_device(self.scope.device())?)).transpose()
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name)?.ok_or_else(|| Error::MissingTensor {
            origin: self.file.path().display().to_string(),
            name: format!("in.{name}"),
        })
    }
}

impl Network {
    /// Runs the network on the inputs of a file, in f32.
    ///
    /// A transformer takes `in.hidden_states [B,C,F,H,W]`, `in.timestep` (`[B]`, `[B,F]` or `[B,L]`),
    /// `in.encoder_hidden_states [B,T,D]`, and where the model has them
    /// `in.encoder_hidden_states_image` and `in.fps_class`; it gives `out.sample`. A text encoder takes
    /// `in.input_ids` and `in.attention_mask`, an image encoder `in.pixel_values`; they give
    /// `out.last_hidden_state`. A VAE takes `in.sample` (pixels, to `out.latents`) or `in.latents` (to
    /// `out.sample`).
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for an input that is not there; errors of loading and of the pass.
    pub fn forward(&self, scope: &Scope, inputs: &WeightFile) -> Result<BTreeMap<String, Tensor>> {
        let inputs = Inputs { file: inputs, scope };
        let (name, output) = match self {
            Self::Transformer(config) => {
                let model = WanModel::load(config.clone(), scope.clone())?;
                ("out.sample", transformer(&model, &inputs)?)
            }
            Self::TextEncoder(config) => {
                let encoder = Umt5Encoder::load(config.clone(), scope.clone())?;
                let ids = inputs.get("input_ids")?.to_dtype(DType::U32)?;
                let mask = inputs.get("attention_mask")?.to_dtype(DType::U32)?;
                ("out.last_hidden_state", encoder.forward(&ids, &mask)?)
            }
            Self::ImageEncoder(config) => {
                let encoder = ClipVision::load(config.clone(), scope.clone())?;
                let pixels = inputs.get("pixel_values")?;
                ("out.last_hidden_state", encoder.forward_observed(&pixels, &mut ())?)
            }
            Self::Vae(config) => {
                let vae = Vae::load(config.clone(), scope.clone())?;
                match inputs.find("latents")? {
                    Some(latents) => ("out.sample", vae.decode(&latents)?),
                    None => ("out.latents", vae.encode(&inputs.get("sample")?)?.mean),
                }
            }
        };
        Ok(BTreeMap::from([(name.to_owned(), output.to_dtype(DType::F32)?)]))
    }
}

fn transformer(model: &WanModel, inputs: &Inputs) -> Result<Tensor> {
    let latents = inputs.get("hidden_states")?;
    let timesteps = timesteps(&inputs.get("timestep")?, latents.dims().get(2).copied())?;
    let image = inputs.find("encoder_hidden_states_image")?;
    let text = model.context(&inputs.get("encoder_hidden_states")?, image.as_ref())?;
    let classes = inputs.find("fps_class")?;
    let classes = classes.map(|classes| classes.to_dtype(DType::U32)?.to_vec1::<u32>());
    let embedded = model.embed(&latents, &timesteps, classes.transpose()?.as_deref())?;
    let attention = Attention::BlockCausal(model.config().num_frame_per_block);
    let blocks = 0..model.block_count();
    let hidden = model.blocks(blocks, &embedded.hidden, &embedded, &text, attention)?;
    model.head(&hidden, &embedded)
}

/// `[B]` is one timestep a video, `[B,F]` one a frame, any other `[B,n]` one a token.
fn timesteps(given: &Tensor, frames: Option<usize>) -> Result<Timesteps> {
    let given = given.to_dtype(DType::F64)?;
    match given.rank() {
        1 => Timesteps::per_video(&given.to_vec1()?),
        _ if given.dims().get(1).copied() == frames => Timesteps::per_frame(&given.to_vec2()?),
        _ => Timesteps::per_token(&given.to_vec2()?),
    }
}
