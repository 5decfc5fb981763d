//! The tokenizer, as published, on prompts with the numbers that Wan and diffusers make of them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::bounded;
use super::case::{Case, Limits};
use super::judged::Verdict;
use super::options::Options;

/// A vocabulary of 256 300 pieces takes its time in a debug build.
const LIMITS: Limits = Limits { seconds: 60, memory_mb: 2000 };

/// Encodes the prompts of a case.
pub(super) fn tokenised(options: &Options, case: &Case) -> Result<Verdict> {
    let Some(tokenizer) = &options.tokenizer else {
        let why = "WAN_UMT5_TOKENIZER names no tokenizer.json of google/umt5-xxl";
        return Ok(Verdict::Skipped(why.into()));
    };
    let folder = tempfile::tempdir()?;
    let prompts = folder.path().join("prompts.json");
    let texts: Vec<&str> = case.said.rows.iter().map(|row| row.prompt.as_str()).collect();
    fs::write(&prompts, serde_json::to_string(&texts)?)?;
    let mut command = Command::new(&options.program);
    command.arg("inspect").arg(tokenizer).arg("--tokens").arg(&prompts);
    let ended = bounded::run(&mut command, case.said.limits.unwrap_or(LIMITS))?;
    if !ended.status.is_some_and(|status| status.success()) {
        return Ok(Verdict::Failed(format!("refused: {}", ended.errors.trim())));
    }
    let found: Vec<Vec<u32>> =
        serde_json::from_str(&ended.output).context("what --tokens prints")?;
    let rows = case.said.rows.iter();
    let differ = rows.zip(&found).filter(|(row, found)| row.ids_512 != **found);
    let differ: Vec<&str> = differ.map(|(row, _)| row.prompt.as_str()).collect();
    if found.len() != texts.len() {
        return Ok(Verdict::Failed(format!("{} prompts, {} answers", texts.len(), found.len())));
    }
    Ok(match differ.first() {
        None => Verdict::Passed(format!("{} prompts", texts.len())),
        Some(first) => Verdict::Failed(format!(
            "{} of {} prompts differ: {first:?}",
            differ.len(),
            texts.len()
        )),
    })
}
