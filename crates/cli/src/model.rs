//! The model that a command line names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_host::parts::Registry;
use wan_host::{Checkpoint, Engine, Model, Result, Sidecar};

use crate::{checkout, device, kernels, prompt_cache};

/// Opens the model that the flags name; else the recorded one, else the demo model.
///
/// # Errors
/// If there is none, or its parts do not fit each other.
pub(super) fn open(
    registry: &Registry,
    matches: &ArgMatches,
    recorded: Option<&Sidecar>,
) -> Result<Model> {
    let checkpoint = checkpoint(matches, recorded)?;
    // Not every command names one.
    let task = matches.try_get_one::<String>("task").ok().flatten().map(String::as_str);
    // Said before anything is refused: it tells what is missing. A sidecar has its own task.
    let by_tensors = if recorded.is_none() { checkpoint.recognised_task(task)? } else { None };
    if let Some(id) = by_tensors {
        note!("this is {id} by its tensors");
    }
    let device = device::chosen(matches);
    let prompt_cache = prompt_cache::chosen(matches);
    let kernels = kernels::chosen(matches, recorded)?;
    let engine = Engine::builder().registry(registry.clone()).device(device).kernels(kernels);
    let model = engine.prompt_cache(prompt_cache).build()?.open_checkpoint(checkpoint)?;
    prompt_cache::check(matches, &model)?;
    Ok(model)
}

/// The files that the flags name; else the recorded ones, else the demo model.
pub(super) fn checkpoint(matches: &ArgMatches, recorded: Option<&Sidecar>) -> Result<Checkpoint> {
    // `decode` has no flags for single files.
    let path = |flag: &str| matches.try_get_one::<PathBuf>(flag).ok().flatten().cloned();
    let files: BTreeMap<String, Vec<PathBuf>> = Checkpoint::PARTS
        .iter()
        .filter_map(|part| Some((part.to_string(), vec![path(part)?])))
        .collect();
    match (path("ckpt_dir"), recorded) {
        (Some(root), _) => Checkpoint::open_with(&root, files, path("tokenizer")),
        // Single files need no folder, and the demo model is not to lend its parts.
        (None, _) if !files.is_empty() => {
            Checkpoint::open_with(Path::new(""), files, path("tokenizer"))
        }
        (None, Some(recorded)) => {
            let model = &recorded.model;
            Checkpoint::open_with(&model.path, model.files.clone(), path("tokenizer"))
        }
        (None, None) => Checkpoint::open_with(&default_model(), files, path("tokenizer")),
    }
}

/// The demo model: beside the program, else in its checkout.
fn default_model() -> PathBuf {
    let beside = std::env::current_exe().unwrap_or_default().with_file_name("demo-model");
    match checkout::find() {
        Some(checkout) if !beside.is_dir() => checkout.join("demo-model"),
        _ => beside,
    }
}
