//! What is run.

use std::path::PathBuf;

/// A set of cases, and what they need.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `wan`.
    pub program: PathBuf,
    /// The folder of a set of cases.
    pub folder: PathBuf,
    /// UMT5's `tokenizer.json` as published; without it the tokenizer's case is skipped.
    pub tokenizer: Option<PathBuf>,
    /// Cases whose names have this in them.
    pub only: String,
}
