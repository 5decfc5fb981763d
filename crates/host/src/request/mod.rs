//! What somebody asks for: flags, `wan.toml`, a JSON job and Rust all make one of these.

pub(crate) mod file_hash;
pub(crate) mod frame_source;
pub(crate) mod lora;
pub(crate) mod memory;
pub(crate) mod on_nan;
pub(crate) mod origin;
pub(crate) mod precision;
pub(crate) mod residency;
pub(crate) mod settings;
pub(crate) mod size;
pub(crate) mod wan_toml;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wan_plugin_api::{OptionValues, Place};

use crate::request::frame_source::FrameSource;
use crate::request::lora::LoraRequest;
use crate::request::memory::{Bytes, EncoderPlace, Fit};
use crate::request::on_nan::OnNan;
use crate::request::precision::Format;

/// A cache of this name is none.
pub(crate) const NO_CACHE: &str = "none";

/// What a video is to be. Everything is optional: [`Model::settle`](crate::Model::settle) completes
/// it, and says where each value came from.
///
/// The fields have the names of the program's flags. As JSON, a field that is not known is refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// What the video shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What it should not show; used where guidance is above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Take the published defaults of this model, by the name of Wan's `--task`: `t2v-14B`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Width and height in pixels, as `832*480`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Pixel frames, `4 n + 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_num: Option<usize>,
    /// Frames per second of the file, and of the model where it has that embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Seed of all noise, 0 or above; -1 draws one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_seed: Option<i64>,
    /// Inference steps per frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_steps: Option<u32>,
    /// Flow shift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_shift: Option<f64>,
    /// Guidance scale; 1 or less runs without guidance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_guide_scale: Option<f64>,
    /// Guidance scale of the second expert, for low noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_guide_scale_low: Option<f64>,
    /// Id of the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Options of the sampler.
    #[serde(skip_serializing_if = "OptionValues::is_empty")]
    pub sampler_options: OptionValues,
    /// Id of the step cache, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Options of the cache.
    #[serde(skip_serializing_if = "OptionValues::is_empty")]
    pub cache_options: OptionValues,
    /// Where what the cache keeps lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_device: Option<Place>,
    /// Picture that the video begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<FrameSource>,
    /// Picture that the video ends with, for models that take one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<FrameSource>,
    /// Clip that the video goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<FrameSource>,
    /// Frames of the clip's end that are context, `4 n + 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_frames: Option<usize>,
    /// Latents file of an earlier run, to go on from instead of noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents: Option<PathBuf>,
    /// End with latents, noisy ones too, for another run to go on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents_only: Option<bool>,
    /// LoRAs on the transformer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Vec<LoraRequest>>,
    /// Number format of the transformer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Format>,
    /// Keep the residual stream in that format too; Wan has it in f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub narrow_stream: Option<bool>,
    /// Number format of the text encoder's products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder_dtype: Option<Format>,
    /// Where the text encoder computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder_device: Option<EncoderPlace>,
    /// Number format of the VAE's products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae_dtype: Option<Format>,
    /// Most memory of the device that the run may take; on the CPU, of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Bytes>,
    /// Most main memory of the process, where the device has memory of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_host_memory: Option<Bytes>,
    /// What is done where the run does not fit the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Decode in blended tiles: less memory for a large picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae_tiling: Option<bool>,
    /// What to do with numbers that no video has: stop the run, or warn and go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_nan: Option<OnNan>,
}

impl Request {
    /// A video of this prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..Self::default() }
    }

    /// Of this size in pixels.
    #[must_use]
    pub fn size(self, width: usize, height: usize) -> Self {
        Self { size: Some(format!("{width}*{height}")), ..self }
    }

    /// Of so many pixel frames, `4 n + 1`.
    #[must_use]
    pub fn frame_num(self, frames: usize) -> Self {
        Self { frame_num: Some(frames), ..self }
    }

    /// In so many inference steps per frame.
    #[must_use]
    pub fn sample_steps(self, steps: u32) -> Self {
        Self { sample_steps: Some(steps), ..self }
    }

    /// With noise of this seed.
    #[must_use]
    pub fn base_seed(self, seed: u32) -> Self {
        Self { base_seed: Some(seed.into()), ..self }
    }

    /// By the sampler of this id.
    #[must_use]
    pub fn sampler(self, id: impl Into<String>) -> Self {
        Self { sampler: Some(id.into()), ..self }
    }

    /// With the step cache of this id.
    #[must_use]
    pub fn cache(self, id: impl Into<String>) -> Self {
        Self { cache: Some(id.into()), ..self }
    }

    /// Beginning with this picture.
    #[must_use]
    pub fn image(self, picture: impl Into<FrameSource>) -> Self {
        Self { image: Some(picture.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_back_and_an_unknown_field_is_refused() {
        let request = Request { latents_only: Some(true), ..Request::new("a ball") };
        let request = request.size(64, 32).cache("any").image("first.png");
        let text = serde_json::to_string(&request).unwrap();
        let expected = r#"{"prompt":"a ball","size":"64*32","cache":"any","image":"first.png","#;
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let error = serde_json::from_str::<Request>(r#"{"promt": "a"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `promt`"), "{error}");
    }
}
