//! What comes out of a file: a forward pass, and the ids of prompts.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use clap::ArgMatches;
use wan_border::files::{self, Content};
use wan_host::{Error, Result};
use wan_model::family::PROMPT_TOKENS;
use wan_model::tokenizer::PromptTokenizer;
use wan_model::weights::WeightFile;
use wan_outputs::Wanted;

use crate::convert::{fitted, given_network};
use crate::outputs::{claim, outputs};

/// Room for a pass's outputs, by estimate.
const OUT_BYTES: u64 = 1 << 20;

/// Runs a forward pass and writes what comes out.
pub(super) fn forward(matches: &ArgMatches) -> Result<()> {
    let (weights, network) = given_network(matches)?;
    let loras = fitted(matches, &network)?;
    let path = |flag: &str| matches.get_one::<PathBuf>(flag).cloned().unwrap_or_default();
    let inputs = WeightFile::open(&path("forward")).map_err(wan_model::Error::from)?;
    let wanted = Wanted {
        field: "out".into(),
        path: path("out"),
        is_ours: |_| false,
        bytes: OUT_BYTES,
        temporary_in: None,
    };
    let claim = claim(outputs(matches), &wanted)?;
    let scope = weights.scope(DType::F32, &Device::Cpu)?.with_loras(loras);
    let passed = network.forward(&scope, &inputs)?;
    let bytes = wan_model::convert::to_safetensors(&passed)?;
    claim.write(&bytes)?;
    for (name, tensor) in &passed {
        say!("{name} {:?}", tensor.dims());
    }
    Ok(())
}

/// Prints the ids of prompts, a list of lists.
pub(super) fn tokens(tokenizer: &Path, prompts: &Path) -> Result<()> {
    let tokenizer = PromptTokenizer::from_file(tokenizer)?;
    let prompts: Vec<String> = files::json(prompts, Content::Report)
        .map_err(|error| Error::about("tokens", format!("`tokens` {error}")))?;
    let ids = prompts.iter().map(|prompt| {
        let tokens = tokenizer.encode(prompt, PROMPT_TOKENS.get())?;
        let words = tokens.mask.iter().filter(|mask| **mask == 1).count();
        Ok(tokens.ids[..words].to_vec())
    });
    let ids = ids.collect::<Result<Vec<Vec<u32>>>>()?;
    say!("{}", serde_json::to_string(&ids).unwrap_or_default());
    Ok(())
}
