//! What a tokenizer is.

use std::path::Path;

use serde_json::json;
use wan_host::Result;
use wan_model::tokenizer::PromptTokenizer;

use super::Described;

/// Whether a file is a tokenizer by its name: weights have other ends.
pub(super) fn is_one(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("tokenizer.json") || name.ends_with(".model")
}

pub(super) fn describe(path: &Path) -> Result<Described> {
    let tokenizer = PromptTokenizer::from_file(path)?;
    let (name, pieces) = (path.display().to_string(), tokenizer.pieces());
    let lines = vec![name.clone(), format!("  a tokenizer of {pieces} pieces, for --tokenizer")];
    let json = json!({ "path": name, "kind": "tokenizer", "pieces": pieces });
    Ok(Described { lines, json, problems: 0 })
}
