//! What TeaCache can be told.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wan_plugin_api::{Gate, OptionSpec, Protects, Rule, Signal};

use super::preset::Preset;
use crate::calibration::TEA_CACHE_ROWS;
use crate::limits::LimitOptions;
use crate::scope::Scope;

/// Options of [`TeaCache`](crate::TeaCache).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TeaCacheOptions {
    /// Which time signal is compared.
    pub mode: Mode,
    /// Reuse while the accumulated change is below this; 0 switches the cache off.
    pub threshold: f64,
    /// Published polynomial: `auto` (the model's own), `none`, or a row by name.
    pub table: String,
    /// What `wan cache calibrate` wrote, or null.
    pub calibration: Value,
    /// Polynomial that rescales the change, highest power first; empty: from `table`.
    pub coefficients: Vec<f64>,
    /// A reference to follow in everything that it fixes.
    pub preset: Preset,
    /// What the signal is compared with.
    pub anchor: Anchor,
    /// Frames that count.
    pub scope: Scope,
    /// What a negative value of the polynomial means.
    pub negative: Negative,
    /// Which evaluations always compute.
    #[serde(flatten)]
    pub limits: LimitOptions,
}

/// The time signal that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The time embedding, `[F, D]`.
    E,
    /// The time projection, `[F, 6, D]`.
    E0,
}

/// What the signal is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// The previous evaluation (TeaCache, SkyReels-V2): changes add up along the path.
    Previous,
    /// The last computed evaluation (WanVideoWrapper): distances from one point add up.
    Computed,
}

/// What a negative value of the polynomial means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// No change.
    Clamp,
    /// A step back, as the references have it.
    Reference,
}

impl Mode {
    pub(super) fn signal(self) -> Signal {
        match self {
            Self::E => Signal::TimeEmbedding,
            Self::E0 => Signal::TimeProjection,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::E => "e",
            Self::E0 => "e0",
        }
    }
}

impl Default for TeaCacheOptions {
    fn default() -> Self {
        Self {
            mode: Mode::E0,
            threshold: 0.1,
            table: "auto".into(),
            calibration: Value::Null,
            coefficients: Vec::new(),
            preset: Preset::None,
            anchor: Anchor::Previous,
            scope: Scope::UpdatedFrames,
            negative: Negative::Clamp,
            limits: LimitOptions { retention: 6, last: 1, max_skips: 1 },
        }
    }
}

impl TeaCacheOptions {
    /// Only sums of changes from step to step that never shrink grow with the threshold alone.
    pub(super) fn rule(&self, protects: Protects) -> Rule {
        Rule {
            all_frames: self.scope == Scope::AllFrames,
            monotone: self.anchor == Anchor::Previous && self.negative == Negative::Clamp,
            gate: Some(Gate {
                measure: "before".into(),
                step: Some("rescaled".into()),
                below: self.threshold,
            }),
            protects: Some(protects),
            ..Rule::default()
        }
    }

    pub(super) fn specs() -> Vec<OptionSpec> {
        let default = Self::default();
        let tables: Vec<&str> = ["auto", "none"].into_iter().chain(TEA_CACHE_ROWS).collect();
        let range = (0.0, 100.0);
        let threshold = default.threshold;
        let own = vec![
            OptionSpec::choice("mode", &["e0", "e"], "time signal that is compared"),
            OptionSpec::float("threshold", threshold, range, "reuse below this accumulated change")
                .flag("teacache_thresh"),
            OptionSpec::choice(
                "table",
                &tables,
                "published polynomial; auto: the model's own, or none where there is none",
            ),
            OptionSpec::document("calibration", "polynomial that `wan cache calibrate` fitted"),
            OptionSpec::float_list(
                "coefficients",
                "polynomial over the change, highest power first",
            ),
            OptionSpec::choice("preset", &Preset::WORDS, Preset::DOC),
            OptionSpec::choice(
                "anchor",
                &["previous", "computed"],
                "what the signal is compared with: the previous evaluation, or the last computed",
            ),
            Scope::spec(),
            OptionSpec::choice("negative", &["clamp", "reference"], "a negative polynomial value"),
        ];
        [own, default.limits.specs()].concat()
    }
}
