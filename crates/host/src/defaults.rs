//! What is used where the user gives no flag: of a model folder (`wan.toml`) or of a task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wan_plugin_api::OptionValues;

/// Negative prompt that all published models are sampled with (Wan2.1, commit 9737cba,
/// `wan/configs/shared_config.py`).
const WAN_NEGATIVE_PROMPT: &str = "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，\
    静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，\
    画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，\
    背景人很多，倒着走";

/// `wan.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The published model that they are of, by the name of its task.
    #[serde(skip)]
    pub task: Option<String>,
    /// Generation settings.
    pub generate: GenerateDefaults,
    /// Options of the default sampler.
    pub sampler_options: OptionValues,
    /// Options of the default cache.
    pub cache_options: OptionValues,
}

/// `[generate]` of `wan.toml`; where a field is missing, Wan's own defaults hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "named as the flags, which document them")]
pub struct GenerateDefaults {
    pub prompt: Option<String>,
    pub negative_prompt: String,
    pub size: String,
    pub frame_num: usize,
    pub sample_steps: u32,
    pub sample_shift: f64,
    /// Shifts of sizes (`832*480`) that have one of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sample_shift_of_size: BTreeMap<String, f64>,
    pub sample_guide_scale: f64,
    pub sample_guide_scale_low: Option<f64>,
    pub fps: f64,
    pub sampler: Option<String>,
    pub cache: Option<String>,
}

impl GenerateDefaults {
    /// The defaults for a video of this size.
    pub fn for_size(mut self, width: usize, height: usize) -> Self {
        if let Some(shift) = self.sample_shift_of_size.get(&format!("{width}*{height}")) {
            self.sample_shift = *shift;
        }
        self
    }
}

impl Default for GenerateDefaults {
    fn default() -> Self {
        Self {
            prompt: None,
            negative_prompt: WAN_NEGATIVE_PROMPT.into(),
            size: "832*480".into(),
            frame_num: 81,
            sample_steps: 50,
            sample_shift: 5.0,
            sample_shift_of_size: BTreeMap::new(),
            sample_guide_scale: 5.0,
            sample_guide_scale_low: None,
            fps: 16.0,
            sampler: None,
            cache: None,
        }
    }
}
