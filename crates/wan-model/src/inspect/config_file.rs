//! `config.json` of a network, as diffusers and transformers write it, and back.

use std::path::Path;

use serde_json::{Value, json};
use wan_border::files::{self, Content};

use super::network::Network;
use crate::error::{Error, Result};

/// Members that diffusers' class of Wan does not have.
const OF_SKYREELS: [&str; 2] = ["inject_sample_info", "num_frame_per_block"];

impl Network {
    /// The network of a `config.json`. `part` is the name of its folder (`transformer`,
    /// `transformer_2`, `vae`, `text_encoder`, `image_encoder`); without it the file has to say what
    /// it is of, and one that says something else is none. None where there is no file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::MalformedFile`] if it is no config of that part.
    pub fn read_config(path: &Path, part: Option<&str>) -> Result<Option<Self>> {
        let Some(text) = files::optional_text(path, Content::Settings)? else { return Ok(None) };
        // Backticks are for fields of a request.
        let malformed = |reason: String| Error::MalformedFile {
            path: path.into(),
            reason: reason.replace('`', "'"),
        };
        let part = match part {
            Some(part) => Some(part),
            None => part_of_config(&files::parse_json(&text).map_err(malformed)?),
        };
        let network = match part.map(|part| part.trim_end_matches("_2")) {
            Some("vae") => files::parse_json(&text).map(Self::Vae),
            Some("text_encoder") => files::parse_json(&text).map(Self::TextEncoder),
            Some("image_encoder") => files::parse_json(&text).map(Self::ImageEncoder),
            Some(_) => files::parse_json(&text).map(Self::Transformer),
            None => return Ok(None),
        };
        let network = network.map_err(malformed)?;
        network.check().map_err(|error| malformed(error.to_string()))?;
        Ok(Some(network))
    }

    /// The config as diffusers or transformers read it.
    pub fn config_json(&self) -> Value {
        let (mut value, words) = match self {
            Self::Transformer(config) => {
                let skyreels = config.inject_sample_info || config.num_frame_per_block > 1;
                let class = if skyreels { "SkyReelsV2" } else { "Wan" };
                let mut value = json!(config);
                if let (Value::Object(members), false) = (&mut value, skyreels) {
                    // diffusers warns of members that a class does not know.
                    OF_SKYREELS.iter().for_each(|member| drop(members.remove(*member)));
                }
                (value, json!({ "_class_name": format!("{class}Transformer3DModel") }))
            }
            Self::Vae(config) => (json!(config), json!({ "_class_name": "AutoencoderKLWan" })),
            Self::TextEncoder(config) => {
                let words = json!({ "model_type": "umt5", "architectures": ["UMT5EncoderModel"] });
                (json!(config), words)
            }
            Self::ImageEncoder(config) => {
                let class = json!(["CLIPVisionModel"]);
                (
                    json!(config),
                    json!({ "model_type": "clip_vision_model", "architectures": class }),
                )
            }
        };
        if let (Value::Object(value), Value::Object(words)) = (&mut value, words) {
            value.extend(words);
        }
        value
    }
}

fn part_of_config(config: &Value) -> Option<&'static str> {
    let kind = config["_class_name"].as_str().or(config["model_type"].as_str())?;
    match kind {
        kind if kind.ends_with("Transformer3DModel") => Some("transformer"),
        "AutoencoderKLWan" => Some("vae"),
        "umt5" => Some("text_encoder"),
        "clip_vision_model" => Some("image_encoder"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::known;

    #[test]
    fn every_published_config_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(Network::read_config(&path, None).unwrap().is_none());
        for known in known() {
            std::fs::write(&path, known.network.config_json().to_string()).unwrap();
            let read = Network::read_config(&path, None).unwrap();
            assert_eq!(read.as_ref(), Some(&known.network), "{}", known.id);
            let written = known.network.config_json();
            let has = |member: &&&str| written.get(**member).is_some();
            let expected =
                if written["_class_name"] == "SkyReelsV2Transformer3DModel" { 2 } else { 0 };
            assert_eq!(OF_SKYREELS.iter().filter(has).count(), expected, "{}", known.id);
        }
        std::fs::write(&path, r#"{"model_type": "llama"}"#).unwrap();
        assert!(Network::read_config(&path, None).unwrap().is_none());
        let error = Network::read_config(&path, Some("vae")).unwrap_err().to_string();
        assert!(error.contains("missing field 'base_dim'"), "{error}");
    }
}
