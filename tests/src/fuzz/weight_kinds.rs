//! Readers of weights in other formats than our own, and of what changes weights.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use wan_model::inspect::{Inspection, Network};
use wan_model::lora::{Distilled, Expert, FittedLora, Lora, Patched};
use wan_model::tokenizer::PromptTokenizer;
use wan_model::weights::{Source, Weights};
use wan_tests::checkout::checkout;
use wan_tests::weight_cases::OWN;

use crate::world::World;

/// Bytes of a tensor that is read.
const TENSOR_BYTES: u64 = 1 << 20;

/// Tensors of a file that are read.
const TENSORS: usize = 64;

/// Weights of any format, and of shards.
pub(crate) fn weights(_: &World, path: &Path) -> Result<()> {
    let weights = Weights::open(&[path.to_path_buf()])?;
    let inspection = Inspection::of(&weights);
    inspection.problems.iter().for_each(|problem| drop(problem.to_string()));
    let is_small = |name: &&&str| weights.bytes(name).is_some_and(|bytes| bytes <= TENSOR_BYTES);
    for name in weights.names().iter().filter(is_small).take(TENSORS) {
        weights.tensor(name, &Device::Cpu)?;
    }
    Ok(())
}

/// The weights that LoRAs are put on, and their network.
pub(crate) struct Base {
    network: Network,
    weights: Arc<Weights>,
}

impl Base {
    /// That of the project's cases.
    pub(crate) fn open() -> Result<Self> {
        let folder = checkout().join(OWN).join("lora-base");
        let weights = Arc::new(Weights::open(&[folder.join("base.safetensors")])?);
        let network = Network::read_config(&folder.join("config.json"), Some("transformer"))?;
        Ok(Self { network: network.context("a config")?, weights })
    }
}

/// A LoRA, on every expert, with all that it changes.
pub(crate) fn lora(world: &World, path: &Path) -> Result<()> {
    let base = world.base()?;
    let lora = Arc::new(Lora::open(path)?);
    lora.facts();
    Distilled::of(&lora);
    let experts = [Expert::Only, Expert::HighNoise, Expert::LowNoise];
    let mut first = Ok(());
    for expert in experts {
        match FittedLora::new(&lora, &base.network, 0.7, expert) {
            Ok(fitted) => {
                let applied = apply(base, fitted);
                first = first.and(applied);
            }
            Err(error) => first = first.and(Err(error.into())),
        }
    }
    first?;
    Ok(lora.check_numbers()?)
}

fn apply(base: &Base, fitted: FittedLora) -> Result<()> {
    fitted.warnings();
    let fitted = Arc::new(fitted);
    let patched = Patched::new(base.weights.clone(), vec![fitted.clone()]);
    for (name, shape) in base.network.tensors() {
        if fitted.changes(&name) {
            patched.get(&name, &shape)?.to_tensor(DType::F32, &Device::Cpu)?;
        }
    }
    Ok(())
}

/// A tokenizer of either format.
pub(crate) fn tokenizer(_: &World, path: &Path) -> Result<()> {
    let tokenizer = PromptTokenizer::from_file(path)?;
    for prompt in ["a big red ball  moving\nright", "", "</s> <pad> \u{feff}日本 👍🏽 x"] {
        tokenizer.encode(prompt, 16)?.tensors(&Device::Cpu)?;
        tokenizer.unknown_words(prompt);
    }
    tokenizer.known_words();
    Ok(())
}
