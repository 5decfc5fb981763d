//! The unfinished runs of a folder, for a look.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wan_run_store::{CheckpointFile, Listed};

use super::{Reached, Recipe};
use crate::error::Result;

/// An unfinished run.
#[derive(Debug)]
pub struct UnfinishedRun {
    /// Its folder.
    pub path: PathBuf,
    /// What it is, if that can be read.
    pub recipe: Option<Recipe>,
    /// How far it has come; none before the first checkpoint.
    pub reached: Option<Reached>,
    /// When the newest checkpoint was written.
    pub modified: Option<SystemTime>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Whether a process works on it.
    pub is_worked_on: bool,
    /// That process, where the system tells.
    pub process: Option<u32>,
    /// What is wrong with it, a line each.
    pub damage: Vec<String>,
}

/// The unfinished runs of a folder, by name. Changes nothing.
///
/// # Errors
/// If the folder cannot be listed.
pub fn unfinished_runs(folder: &Path) -> Result<Vec<UnfinishedRun>> {
    Ok(wan_run_store::list(folder)?.into_iter().map(UnfinishedRun::of).collect())
}

impl UnfinishedRun {
    fn of(listed: Listed) -> Self {
        let mut damage = listed.damage;
        let recipe = listed.recipe.as_deref().map(Recipe::of_text).transpose();
        let recipe = recipe.unwrap_or_else(|why| {
            damage.push(format!("its recipe cannot be read: {why}"));
            None
        });
        let mut reached = None;
        for file in &listed.checkpoints {
            match reached_in(file) {
                Ok(found) => {
                    reached = Some(found);
                    break;
                }
                Err(why) => damage.push(why),
            }
        }
        Self {
            path: listed.path,
            recipe,
            reached,
            modified: listed.modified,
            bytes: listed.bytes,
            is_worked_on: listed.worker.is_some(),
            process: listed.worker.and_then(|worker| worker.process),
            damage,
        }
    }
}

fn reached_in(file: &CheckpointFile) -> std::result::Result<Reached, String> {
    let text = file.text().map_err(|error| error.to_string())?;
    Reached::of_text(&text).map_err(|why| format!("{}: {why}", file.path().display()))
}
