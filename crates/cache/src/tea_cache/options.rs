//! The options of TeaCache.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wan_plugin_api::{Error, Gate, OptionSpec, Protects, Result, Rule};

use super::preset::Preset;
use super::rule::{Anchor, Mode, Negative};
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
    /// Content of a file of `wan cache calibrate`, or null.
    pub calibration: Value,
    /// Polynomial that rescales the change, highest power first; empty: from `table`.
    pub coefficients: Vec<f64>,
    /// A reference to follow in everything that it fixes.
    pub preset: Preset,
    /// The evaluation that the signal is compared with.
    pub anchor: Anchor,
    /// Latent frames that count in the change.
    pub scope: Scope,
    /// How a negative value of the polynomial counts.
    pub negative: Negative,
    /// Which evaluations always compute.
    #[serde(flatten)]
    pub limits: LimitOptions,
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
    /// The rule is monotone in the threshold only where the sum is a path length that never
    /// shrinks.
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

    /// These options with everything that the preset fixes.
    ///
    /// # Errors
    /// `Invalid`, naming an option whose value is neither its default nor the preset's.
    pub(super) fn settled(mut self) -> Result<Self> {
        let preset = self.preset;
        let Some(fixed) = preset.fixed(self.mode) else { return Ok(self) };
        let default = Self::default();
        fix(preset, "anchor", &mut self.anchor, default.anchor, fixed.anchor)?;
        fix(preset, "scope", &mut self.scope, default.scope, Scope::AllFrames)?;
        fix(preset, "negative", &mut self.negative, default.negative, Negative::Reference)?;
        let (limits, default) = (&mut self.limits, default.limits);
        fix(preset, "last", &mut limits.last, default.last, fixed.last)?;
        fix(preset, "max_skips", &mut limits.max_skips, default.max_skips, 0)?;
        if let Some(retention) = fixed.retention {
            fix(preset, "retention", &mut limits.retention, default.retention, retention)?;
        }
        Ok(self)
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

/// Sets the option `name` to the value that the preset fixes.
fn fix<T: PartialEq + Copy + Serialize>(
    preset: Preset,
    name: &str,
    given: &mut T,
    default: T,
    fixed: T,
) -> Result<()> {
    if *given != default && *given != fixed {
        let word = |value: T| serde_json::json!(value).to_string().trim_matches('"').to_string();
        return Err(Error::invalid(format!(
            "preset {} fixes {name} = {}, and {name} = {} was given; leave it out, or take \
             preset = none",
            preset.word(),
            word(fixed),
            word(*given)
        )));
    }
    *given = fixed;
    Ok(())
}
