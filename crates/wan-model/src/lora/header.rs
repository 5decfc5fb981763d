//! What a LoRA says of its scaling outside its tensors: diffusers' header, or PEFT's config beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wan_border::files::{self, Content};

use crate::error::{Error, Result};

/// Key of diffusers' header: PEFT's config by component, `transformer.r` and so on.
const ADAPTER: &str = "lora_adapter_metadata";

/// Name of PEFT's config, in the folder of the weights.
const PEFT_CONFIG: &str = "adapter_config.json";

/// PEFT's config of an adapter, as far as it says how strong it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scaling {
    lora_alpha: Option<f64>,
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
}

impl Scaling {
    /// That of a file with these words in its header, else of the config beside it.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] for a document that cannot be read.
    pub(super) fn of(path: &Path, header: &BTreeMap<String, String>) -> Result<Self> {
        let malformed = |reason| Error::MalformedFile { path: path.into(), reason };
        if let Some(text) = header.get(ADAPTER) {
            return Self::of_diffusers(text).map_err(|e| malformed(format!("{ADAPTER}: {e}")));
        }
        let config = path.with_file_name(PEFT_CONFIG);
        match files::optional_text(&config, Content::Settings)? {
            Some(text) => files::parse_json(&text)
                .map_err(|reason| Error::MalformedFile { path: config, reason }),
            None => Ok(Self::default()),
        }
    }

    /// The transformer's members, which have its name before theirs.
    fn of_diffusers(text: &str) -> Result<Self, String> {
        let all: serde_json::Map<String, serde_json::Value> = files::parse_json(text)?;
        let own = all
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("transformer.")?.to_owned(), value)));
        serde_json::from_value(serde_json::Value::Object(own.collect())).map_err(|e| e.to_string())
    }

    /// Factor of a module's change of this rank, where the tensors do not tell: alpha over rank, or
    /// over its square root (rsLoRA, Kalajdzievski 2023); 1 where nothing tells.
    pub(super) fn factor(&self, module: &str, rank: usize) -> f64 {
        let pattern = self.alpha_pattern.iter().find(|(pattern, _)| {
            module == pattern.as_str() || module.ends_with(&format!(".{pattern}"))
        });
        let alpha = pattern.map(|(_, alpha)| *alpha).or(self.lora_alpha);
        let rank = rank as f64;
        match alpha {
            Some(alpha) if self.use_rslora => alpha / rank.sqrt(),
            Some(alpha) => alpha / rank,
            None => 1.,
        }
    }
}
