//! Values of all settings of one video, and what their sizes must be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wan_border::numbers::{ContextFrames, Frames, POSITIONS_MAX, Side, Steps, within};
use wan_plugin_api::{OptionValues, Place};

use crate::error::{Error, Result};
use crate::path_text;
use crate::plugins::choice::StrategyChoice;
use crate::request::frame_source::FrameSource;
use crate::request::lora::LoraRequest;
use crate::request::memory::EncoderPlace;
use crate::request::on_nan::OnNan;
use crate::request::precision::{Format, Precision};
use crate::request::{NO_CACHE, Request};

/// Values of all settings, as the sidecar has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingValues {
    /// What the video shows.
    pub prompt: String,
    /// What it should not show; used where guidance is above 1.
    pub negative_prompt: String,
    /// Pixels.
    pub width: Side,
    /// Pixels.
    pub height: Side,
    /// Pixel frames, `4 n + 1`.
    pub frame_num: Frames,
    /// Inference steps per frame.
    pub sample_steps: Steps,
    /// Flow shift.
    pub sample_shift: f64,
    /// Guidance scale; 1 or less runs without guidance.
    pub sample_guide_scale: f64,
    /// Guidance scale of the second expert, for low noise; none: the same.
    #[serde(default)]
    pub sample_guide_scale_low: Option<f64>,
    /// Seed of all noise.
    pub base_seed: u64,
    /// Frames per second of the file, and of the model where it has that embedding.
    pub fps: f64,
    /// The sampler.
    pub sampler: StrategyChoice,
    /// The step cache, if any.
    pub cache: Option<StrategyChoice>,
    /// Frames that the video begins or ends with.
    #[serde(default)]
    pub given: GivenSources,
    /// LoRAs on the transformer, each with the SHA-256 of its file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lora: Vec<LoraRequest>,
    /// Number formats of the transformer.
    #[serde(default)]
    pub precision: Precision,
    /// Number format of the text encoder's products.
    #[serde(default, skip_serializing_if = "Format::is_f32")]
    pub text_encoder_dtype: Format,
    /// Where the text encoder computes.
    #[serde(default, skip_serializing_if = "EncoderPlace::is_device")]
    pub text_encoder_device: EncoderPlace,
    /// Number format of the VAE's products.
    #[serde(default, skip_serializing_if = "Format::is_f32")]
    pub vae_dtype: Format,
    /// End with latents, noisy ones too, for another run to go on from.
    #[serde(default)]
    pub latents_only: bool,
    /// Where what the cache keeps lies.
    #[serde(default = "beside_the_model")]
    pub cache_device: Place,
    /// Decode in blended tiles.
    #[serde(default)]
    pub vae_tiling: bool,
    /// What is done with numbers that no video has.
    #[serde(default, skip_serializing_if = "OnNan::is_stop")]
    pub on_nan: OnNan,
}

fn beside_the_model() -> Place {
    Place::Device
}

/// What a video begins or ends with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GivenSources {
    /// A picture that is the first frame.
    pub image: Option<FrameSource>,
    /// A picture that is the last frame.
    pub last_frame: Option<FrameSource>,
    /// A clip that the video goes on from.
    pub video: Option<FrameSource>,
    /// How many of the clip's last frames are context, `4 n + 1`.
    pub context_frames: ContextFrames,
    /// Latents of an earlier run, to go on from instead of noise.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "path_text::optional")]
    pub latents: Option<PathBuf>,
    /// SHA-256 of each given file, by the field that names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

impl GivenSources {
    /// Refuses files that are others than the recorded ones, by the hashes that they have now.
    ///
    /// # Errors
    /// If one is, naming the field.
    pub(crate) fn check_same(&self, now: &BTreeMap<String, String>) -> Result<()> {
        let is_other =
            |(field, then): &(&String, &String)| now.get(*field).is_some_and(|now| now != *then);
        match self.hashes.iter().find(is_other) {
            Some((field, _)) => Err(Error::invalid(format!(
                "`{field}` is another file than the recorded one, by its SHA-256"
            ))),
            None => Ok(()),
        }
    }

    /// The same without the paths of files: what they hold is in the hashes.
    #[must_use]
    pub fn without_paths(&self) -> Self {
        let kept =
            |source: &Option<FrameSource>| source.clone().filter(|source| source.path().is_none());
        let [image, last_frame, video] = [&self.image, &self.last_frame, &self.video].map(kept);
        Self { image, last_frame, video, latents: None, ..self.clone() }
    }

    /// The files that are read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let frames = [&self.image, &self.last_frame, &self.video];
        let frames = frames.into_iter().filter_map(|source| source.as_ref()?.path());
        frames.chain(self.latents.as_deref())
    }
}

impl From<&SettingValues> for Request {
    /// The request for just these settings.
    fn from(values: &SettingValues) -> Self {
        let values = values.clone();
        let given = values.given;
        let (cache, cache_options) = match values.cache {
            Some(StrategyChoice { id, options }) => (id, options),
            None => (NO_CACHE.into(), OptionValues::new()),
        };
        Self {
            prompt: Some(values.prompt),
            negative_prompt: Some(values.negative_prompt),
            task: None,
            size: Some(format!("{}*{}", values.width, values.height)),
            frame_num: Some(values.frame_num.get()),
            fps: Some(values.fps),
            // Above i64 it becomes negative, and is refused.
            base_seed: Some(values.base_seed.cast_signed()),
            sample_steps: Some(values.sample_steps.get_u32()),
            sample_shift: Some(values.sample_shift),
            sample_guide_scale: Some(values.sample_guide_scale),
            // Else a default of the model would take its place.
            sample_guide_scale_low: values
                .sample_guide_scale_low
                .or(Some(values.sample_guide_scale)),
            sampler: Some(values.sampler.id),
            sampler_options: values.sampler.options,
            cache: Some(cache),
            cache_options,
            cache_device: Some(values.cache_device),
            image: given.image,
            last_frame: given.last_frame,
            video: given.video,
            context_frames: Some(given.context_frames.get()),
            latents: given.latents,
            latents_only: Some(values.latents_only),
            lora: Some(values.lora),
            dtype: Some(values.precision.dtype),
            narrow_stream: Some(values.precision.narrow_stream),
            text_encoder_dtype: Some(values.text_encoder_dtype),
            text_encoder_device: Some(values.text_encoder_device),
            vae_dtype: Some(values.vae_dtype),
            // Of the machine, not of the video.
            max_memory: None,
            max_host_memory: None,
            fit: None,
            vae_tiling: Some(values.vae_tiling),
            on_nan: Some(values.on_nan),
        }
    }
}

/// What the sizes of a video must be multiples of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRule {
    /// Pixels per latent, height and width.
    pub vae_scale: usize,
    /// Pixel frames per latent frame after the first.
    pub temporal_scale: usize,
    /// Latents per token, height and width.
    pub patch: [usize; 2],
}

/// A latent grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentSize {
    /// Latent frames.
    pub frames: usize,
    /// Latent rows.
    pub height: usize,
    /// Latent columns.
    pub width: usize,
}

impl SettingValues {
    /// Guidance scale of each of `experts` transformers.
    pub(crate) fn guidance(&self, experts: usize) -> Vec<f64> {
        let low = self.sample_guide_scale_low.unwrap_or(self.sample_guide_scale);
        [self.sample_guide_scale, low][..experts].to_vec()
    }

    /// The latent grid of these settings.
    ///
    /// # Errors
    /// If size or frame count do not fit the model, naming the nearest that do; if a number is
    /// out of range.
    pub(crate) fn latent_size(&self, rule: SizeRule) -> Result<LatentSize> {
        let (width, height) = (self.width.get(), self.height.get());
        let [rows, columns] = rule.patch.map(|p| p * rule.vae_scale);
        if !height.is_multiple_of(rows) || !width.is_multiple_of(columns) {
            let near = |size: usize, unit: usize| ((size + unit / 2) / unit).max(1) * unit;
            return Err(Error::field(
                "size",
                format!(
                    "{width}*{height}: this model needs multiples of {columns}*{rows}; try {}*{}",
                    near(width, columns),
                    near(height, rows)
                ),
            ));
        }
        let (unit, frames) = (rule.temporal_scale, self.frame_num.get());
        if !(frames - 1).is_multiple_of(unit) {
            let below = (frames - 1) / unit * unit + 1;
            return Err(Error::field(
                "frame_num",
                format!("{frames}: must be {unit}n+1; try {below} or {}", below + unit),
            ));
        }
        self.check_numbers()?;
        let size = LatentSize {
            frames: (frames - 1) / unit + 1,
            height: height / rule.vae_scale,
            width: width / rule.vae_scale,
        };
        let places = (size.frames * size.height * size.width) as u64;
        if places > POSITIONS_MAX {
            return Err(Error::field(
                "frame_num",
                format!(
                    "{frames} frames of {width}*{height} have {places} latents in a channel, \
                     {POSITIONS_MAX} are the most; take fewer frames or a smaller `size`"
                ),
            ));
        }
        Ok(size)
    }

    /// Checks the numbers that are no counts: counts are in their ranges by their types.
    ///
    /// # Errors
    /// If a number is out of range.
    pub fn check_numbers(&self) -> Result<()> {
        let low = self.sample_guide_scale_low.unwrap_or(self.sample_guide_scale);
        let numbers = [
            ("sample_shift", self.sample_shift, 0.01..=100.0),
            ("sample_guide_scale", self.sample_guide_scale, 0.0..=100.0),
            ("sample_guide_scale_low", low, 0.0..=100.0),
            ("fps", self.fps, 1.0..=240.0),
        ];
        for (field, value, range) in numbers {
            within(value, range).map_err(|error| Error::field(field, error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN_2_1: SizeRule = SizeRule { vae_scale: 8, temporal_scale: 4, patch: [2, 2] };

    fn settings(size: (usize, usize), frame_num: usize) -> SettingValues {
        SettingValues {
            prompt: String::new(),
            negative_prompt: String::new(),
            width: Side::of(size.0),
            height: Side::of(size.1),
            frame_num: Frames::of(frame_num),
            sample_steps: Steps::of(30),
            sample_shift: 5.0,
            sample_guide_scale: 5.0,
            sample_guide_scale_low: None,
            base_seed: 0,
            fps: 16.0,
            sampler: StrategyChoice { id: "any".into(), options: OptionValues::new() },
            cache: None,
            given: GivenSources::default(),
            lora: Vec::new(),
            precision: Precision::default(),
            text_encoder_dtype: Format::F32,
            text_encoder_device: EncoderPlace::Device,
            vae_dtype: Format::F32,
            latents_only: false,
            cache_device: Place::Device,
            vae_tiling: false,
            on_nan: OnNan::Stop,
        }
    }

    #[test]
    fn pixels_become_latents() {
        let size = settings((832, 480), 81).latent_size(WAN_2_1).unwrap();
        assert_eq!(size, LatentSize { frames: 21, height: 60, width: 104 });
    }

    #[test]
    fn misfits_name_the_nearest_that_fits() {
        let text = |s: SettingValues| s.latent_size(WAN_2_1).unwrap_err().to_string();
        assert!(text(settings((830, 480), 81)).contains("try 832*480"));
        assert!(text(settings((832, 480), 80)).contains("try 77 or 81"));
        let most = settings((16384, 16384), (1 << 20) - 3);
        assert!(
            text(most).contains("1099511627776 latents in a channel, 68719476736 are the most")
        );
        let mut wild = settings((832, 480), 81);
        wild.sample_shift = f64::NAN;
        assert!(text(wild).contains("`sample_shift` NaN"));
        let mut wild = settings((832, 480), 81);
        wild.sample_guide_scale_low = Some(-1.0);
        assert!(text(wild).contains("`sample_guide_scale_low` -1"));
    }
}
