//! Prompts with what the published pipelines make of them, for tests: as cleaned by ftfy 6.3.1 and
//! diffusers 0.42.1, and the ids of UMT5's `tokenizer.json`, cut at 512 with the end token kept.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Row {
    pub(super) prompt: String,
    pub(super) cleaned: String,
    pub(super) ids: Vec<u32>,
}

pub(super) fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("published.json")).unwrap()
}
