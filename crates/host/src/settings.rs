//! What one generation is asked to do.

use std::path::Path;

use candle_core::DType;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wan_model::{Numerics, ResidualStream};
use wan_plugin_api::{OptionKind, OptionSpec, OptionValues, Place};

use crate::error::{Error, Result};
use crate::given::GivenFiles;

/// A sampler or cache by name, with the options that the user (or the model folder) gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrategyChoice {
    /// Its id.
    pub id: String,
    /// Options that differ from its defaults, or all of them.
    pub options: OptionValues,
}

/// Settings of `wan generate`, complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the video shows.
    pub prompt: String,
    /// What it should not show; used where guidance is above 1.
    pub negative_prompt: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Pixel frames, `4 n + 1`.
    pub frame_num: usize,
    /// Inference steps per frame.
    pub sample_steps: u32,
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
    pub given: GivenFiles,
    /// Number formats of the transformer.
    #[serde(default)]
    pub precision: Precision,
    /// End with latents, noisy ones too, for another run to go on from.
    #[serde(default)]
    pub latents_only: bool,
    /// Where what the cache keeps lies.
    #[serde(default = "beside_the_model")]
    pub cache_device: Place,
}

fn beside_the_model() -> Place {
    Place::Device
}

/// Number formats of the transformer; see [`Numerics`] for what stays f32 whatever they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// Weights of the blocks, and what enters their products.
    pub dtype: Format,
    /// Whether what one block hands to the next is in that format too (SkyReels-V2, diffusers), or
    /// f32 (Wan's original).
    pub narrow_stream: bool,
}

/// A number format that a transformer can be computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float with 8 bits of exponent.
    Bf16,
    /// 16-bit float with 5 bits of exponent.
    F16,
}

impl Format {
    /// `f32`, `bf16` or `f16`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "f16" => Some(Self::F16),
            _ => None,
        }
    }
}

impl From<Precision> for Numerics {
    fn from(precision: Precision) -> Self {
        let compute = match precision.dtype {
            Format::F32 => DType::F32,
            Format::Bf16 => DType::BF16,
            Format::F16 => DType::F16,
        };
        let stream = match precision.narrow_stream {
            true => ResidualStream::Compute,
            false => ResidualStream::F32,
        };
        Self { compute, stream }
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

impl Settings {
    /// Guidance scale of each of `experts` transformers.
    pub fn guidance(&self, experts: usize) -> Vec<f64> {
        let low = self.sample_guide_scale_low.unwrap_or(self.sample_guide_scale);
        [self.sample_guide_scale, low][..experts].to_vec()
    }

    /// The latent grid of these settings.
    ///
    /// # Errors
    /// If size or frame count do not fit the model, naming the nearest that do; if a number is
    /// out of range.
    pub fn latent_size(&self, rule: SizeRule) -> Result<LatentSize> {
        let [rows, columns] = rule.patch.map(|p| p * rule.vae_scale);
        let misfit = !self.height.is_multiple_of(rows) || !self.width.is_multiple_of(columns);
        if misfit || self.height == 0 || self.width == 0 {
            let near = |size: usize, unit: usize| ((size + unit / 2) / unit).max(1) * unit;
            return Err(Error::invalid(format!(
                "--size {}*{}: this model needs multiples of {columns}*{rows}; try {}*{}",
                self.width,
                self.height,
                near(self.width, columns),
                near(self.height, rows)
            )));
        }
        let unit = rule.temporal_scale;
        if self.frame_num == 0 || !(self.frame_num - 1).is_multiple_of(unit) {
            let below = self.frame_num.saturating_sub(1) / unit * unit + 1;
            return Err(Error::invalid(format!(
                "--frame_num {}: must be {unit}n+1; try {below} or {}",
                self.frame_num,
                below + unit
            )));
        }
        self.check_numbers()?;
        Ok(LatentSize {
            frames: (self.frame_num - 1) / unit + 1,
            height: self.height / rule.vae_scale,
            width: self.width / rule.vae_scale,
        })
    }

    fn check_numbers(&self) -> Result<()> {
        let low = self.sample_guide_scale_low.unwrap_or(self.sample_guide_scale);
        let numbers = [
            ("--sample_steps", self.sample_steps as f64, 1.0, 1000.0),
            ("--sample_shift", self.sample_shift, 0.01, 100.0),
            ("--sample_guide_scale", self.sample_guide_scale, 0.0, 100.0),
            ("--sample_guide_scale_low", low, 0.0, 100.0),
            ("--fps", self.fps, 1.0, 240.0),
        ];
        for (flag, value, min, max) in numbers {
            if !(min..=max).contains(&value) {
                return Err(Error::invalid(format!("{flag} {value}: must be {min} to {max}")));
            }
        }
        Ok(())
    }
}

/// Reads `832*480`, `832x480` or `832×480`: width, then height.
///
/// # Errors
/// If it is none of these.
pub fn parse_size(text: &str) -> Result<(usize, usize)> {
    let parts: Vec<&str> = text.split(['*', 'x', 'X', '×']).map(str::trim).collect();
    match parts.as_slice() {
        [width, height] => match (width.parse(), height.parse()) {
            (Ok(width), Ok(height)) => Ok((width, height)),
            _ => Err(Error::invalid(format!("--size {text}: expected WIDTH*HEIGHT, as 832*480"))),
        },
        _ => Err(Error::invalid(format!("--size {text}: expected WIDTH*HEIGHT, as 832*480"))),
    }
}

/// The value of an option as the user wrote it; of a document, what the file of that name holds.
///
/// # Errors
/// If the value is out of range, or the file cannot be read or holds no JSON object.
pub fn read_option(spec: &OptionSpec, written: &str) -> Result<Value> {
    let invalid = |error: wan_plugin_api::Error| Error::invalid(error.message);
    if spec.kind != OptionKind::Document {
        return spec.parse(written).map_err(invalid);
    }
    let path = Path::new(written);
    let document = std::fs::read_to_string(path)
        .map_err(|e| Error::invalid(format!("option {}: {written}: {e}", spec.name)))?;
    spec.parse(&document).map_err(|_| {
        Error::invalid(format!("option {}: {written} does not hold a JSON object", spec.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN_2_1: SizeRule = SizeRule { vae_scale: 8, temporal_scale: 4, patch: [2, 2] };

    fn settings(size: (usize, usize), frame_num: usize) -> Settings {
        Settings {
            prompt: String::new(),
            negative_prompt: String::new(),
            width: size.0,
            height: size.1,
            frame_num,
            sample_steps: 30,
            sample_shift: 5.0,
            sample_guide_scale: 5.0,
            sample_guide_scale_low: None,
            base_seed: 0,
            fps: 16.0,
            sampler: StrategyChoice { id: "any".into(), options: OptionValues::new() },
            cache: None,
            given: GivenFiles::default(),
            precision: Precision::default(),
            latents_only: false,
            cache_device: Place::Device,
        }
    }

    #[test]
    fn pixels_become_latents() {
        let size = settings((832, 480), 81).latent_size(WAN_2_1).unwrap();
        assert_eq!(size, LatentSize { frames: 21, height: 60, width: 104 });
    }

    #[test]
    fn misfits_name_the_nearest_that_fits() {
        let text = |s: Settings| s.latent_size(WAN_2_1).unwrap_err().to_string();
        assert!(text(settings((830, 480), 81)).contains("try 832*480"));
        assert!(text(settings((832, 480), 80)).contains("try 77 or 81"));
        assert!(text(settings((832, 480), 0)).contains("try 1 or 5"));
        let mut wild = settings((832, 480), 81);
        wild.sample_shift = f64::NAN;
        assert!(text(wild).contains("--sample_shift"));
        let mut wild = settings((832, 480), 81);
        wild.sample_guide_scale_low = Some(-1.0);
        assert!(text(wild).contains("--sample_guide_scale_low"));
    }

    #[test]
    fn sizes_are_width_by_height() {
        assert_eq!(parse_size("832*480").unwrap(), (832, 480));
        assert_eq!(parse_size("832x480").unwrap(), (832, 480));
        for bad in ["832", "832*", "a*b", "1*2*3"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
