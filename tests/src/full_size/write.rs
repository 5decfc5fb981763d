//! Model folders of full size.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use wan_model::WanConfig;
use wan_model::inspect::Network;
use wan_model::umt5::Umt5Config;
use wan_model::vae::VaeConfig;
use wan_tests::checkout::checkout;
use wan_tests::tiny_model::config as config_json;
use wan_weight_files::{Encoding, GgufWriter, SafetensorsWriter, TensorInfo};

use crate::numbers::Numbers;

/// How a transformer is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// safetensors.
    Bf16,
    /// GGUF; what is no matrix of whole blocks is in f32.
    Q4K,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Q4K => "Q4_K",
        }
    }

    fn encoding(self, shape: &[usize]) -> Encoding {
        match (self, shape) {
            (Self::Bf16, _) => Encoding::BF16,
            (Self::Q4K, [_, inputs]) if inputs.is_multiple_of(256) => Encoding::Q4K,
            (Self::Q4K, _) => Encoding::F32,
        }
    }
}

/// Writes a model folder: text encoder and VAE where they are not there yet, the transformer anew.
pub(crate) fn write_model(root: &Path, config: &WanConfig, form: Form) -> Result<()> {
    let mut numbers = Numbers::new();
    let transformer = Network::Transformer(config.clone());
    let mut parts = vec![("transformer", transformer, form)];
    if !root.join("vae/config.json").exists() {
        parts.push(("vae", Network::Vae(VaeConfig::wan_2_1()), Form::Bf16));
        parts.push(("text_encoder", Network::TextEncoder(Umt5Config::xxl()), Form::Bf16));
    }
    for (part, network, form) in parts {
        let folder = root.join(part);
        fs::create_dir_all(&folder)?;
        let stem = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        write_network(&folder, stem, &network, form, &mut numbers)?;
        fs::write(folder.join("config.json"), config_json(&network)?.to_string())?;
    }
    let index = json!({ "_class_name": "WanPipeline" });
    fs::write(root.join("model_index.json"), index.to_string())?;
    fs::create_dir_all(root.join("tokenizer"))?;
    let tokenizer = "tokenizer/tokenizer.json";
    fs::copy(checkout().join("demo-model").join(tokenizer), root.join(tokenizer))?;
    Ok(())
}

fn write_network(
    folder: &Path,
    stem: &str,
    network: &Network,
    form: Form,
    numbers: &mut Numbers,
) -> Result<()> {
    let info = |(name, shape): (String, Vec<usize>)| TensorInfo {
        encoding: form.encoding(&shape),
        name,
        shape,
    };
    let infos: Vec<TensorInfo> = network.tensors().into_iter().map(info).collect();
    let extension = if form == Form::Q4K { "gguf" } else { "safetensors" };
    let path = folder.join(stem).with_extension(extension);
    let out = BufWriter::new(fs::File::create(&path).with_context(|| path.display().to_string())?);
    let metadata = BTreeMap::new();
    if form == Form::Q4K {
        let mut writer = GgufWriter::new(out, &infos, &metadata)?;
        infos
            .iter()
            .try_for_each(|info| Ok::<_, anyhow::Error>(writer.put(&numbers.bytes(info)?)?))?;
        writer.finish()?.into_inner()?.sync_all()?;
    } else {
        let mut writer = SafetensorsWriter::new(out, &infos, &metadata)?;
        infos
            .iter()
            .try_for_each(|info| Ok::<_, anyhow::Error>(writer.put(&numbers.bytes(info)?)?))?;
        writer.finish()?.into_inner()?.sync_all()?;
    }
    Ok(())
}
