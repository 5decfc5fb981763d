//! LoRAs that are asked for: a file, how strong, and for which of two transformers.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::path_text;

/// A LoRA. On a command line `FILE`, `FILE=STRENGTH`, `FILE=STRENGTH@high` or `FILE@low`; in JSON the
/// same text, or an object of these fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct LoraRequest {
    /// The file.
    #[serde(serialize_with = "path_text::serialize")]
    pub file: PathBuf,
    /// Factor of all that it adds: 1 as it was trained, 0 nothing, negative the opposite.
    pub strength: f64,
    /// The transformer that it is for, of two; none: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert: Option<NoiseHalf>,
    /// SHA-256 of the file, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One of two transformers, by the noise that it runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoiseHalf {
    /// The first.
    High,
    /// The second.
    Low,
}

/// A LoRA as JSON has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Fields(Fields),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    file: PathBuf,
    #[serde(default = "as_trained")]
    strength: f64,
    #[serde(default)]
    expert: Option<NoiseHalf>,
    #[serde(default)]
    sha256: Option<String>,
}

fn as_trained() -> f64 {
    1.
}

impl From<Written> for LoraRequest {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(text) => Self::of_text(&text),
            Written::Fields(Fields { file, strength, expert, sha256 }) => {
                Self { file, strength, expert, sha256 }
            }
        }
    }
}

impl LoraRequest {
    /// A name may have `=` and `@` in it: what is behind the last of them counts where it is a
    /// number, or one of the two words.
    fn of_text(text: &str) -> Self {
        let (rest, expert) = match text.rsplit_once('@') {
            Some((rest, "high")) => (rest, Some(NoiseHalf::High)),
            Some((rest, "low")) => (rest, Some(NoiseHalf::Low)),
            _ => (text, None),
        };
        let number = rest
            .rsplit_once('=')
            .and_then(|(file, number)| Some((file, number.trim().parse::<f64>().ok()?)));
        let (file, strength) = number.unwrap_or((rest, as_trained()));
        Self { file: file.into(), strength, expert, sha256: None }
    }
}

impl FromStr for LoraRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lora = Self::of_text(text);
        match lora.file.as_os_str().is_empty() {
            true => Err("names no file; expected FILE[=STRENGTH][@high|low]".into()),
            false => Ok(lora),
        }
    }
}

impl NoiseHalf {
    /// The half of the noise that the name of a weight file says that it is for.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let says = |word: &str, letter: &str| {
            let with_noise = format!("{word}noise");
            words.iter().any(|w| *w == word || w.starts_with(&with_noise))
                || (words.contains(&letter) && words.len() > 1)
        };
        match (says("high", "h"), says("low", "l")) {
            (true, false) => Some(Self::High),
            (false, true) => Some(Self::Low),
            _ => None,
        }
    }
}

impl fmt::Display for NoiseHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Low => "low",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strength_and_expert_are_read_from_the_right() {
        for (text, file, strength, expert) in [
            ("a.safetensors", "a.safetensors", 1., None),
            ("a.safetensors=0.5", "a.safetensors", 0.5, None),
            ("a=b.safetensors=-2", "a=b.safetensors", -2., None),
            ("a@b=c.safetensors", "a@b=c.safetensors", 1., None),
            ("a.safetensors@high", "a.safetensors", 1., Some(NoiseHalf::High)),
            ("me@home/a.safetensors=.25@low", "me@home/a.safetensors", 0.25, Some(NoiseHalf::Low)),
        ] {
            let lora: LoraRequest = text.parse().unwrap();
            assert_eq!(
                (lora.file.to_str(), lora.strength, lora.expert),
                (Some(file), strength, expert)
            );
            let read: LoraRequest = serde_json::from_value(text.into()).unwrap();
            assert_eq!(read, lora);
            let again = serde_json::to_string(&lora).unwrap();
            assert_eq!(serde_json::from_str::<LoraRequest>(&again).unwrap(), lora);
        }
        assert!("=2".parse::<LoraRequest>().is_err() && "".parse::<LoraRequest>().is_err());
    }

    #[test]
    fn a_name_says_its_half_of_the_noise_in_any_spelling() {
        for (name, half) in [
            ("wan2.2_t2v_high_noise_14B_Q4_K_M.gguf", Some(NoiseHalf::High)),
            ("Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf", Some(NoiseHalf::Low)),
            ("Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors", Some(NoiseHalf::High)),
            ("style-L-14B.safetensors", Some(NoiseHalf::Low)),
            ("style-H-.safetensors", Some(NoiseHalf::High)),
            ("slow_motion.safetensors", None),
            ("highlights.safetensors", None),
            ("high_and_low.safetensors", None),
        ] {
            assert_eq!(NoiseHalf::of_file_name(name), half, "{name}");
        }
    }
}
