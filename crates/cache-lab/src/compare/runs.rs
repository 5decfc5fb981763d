//! Finished runs on file, a line of JSON each, so that an interrupted comparison loses nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wan_border::files::{self, Content};
use wan_host::{Error, Result};

use super::quality::Quality;

/// One candidate on one prompt, against the same run uncached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Hash of all that the run depends on.
    pub key: String,
    /// Its prompt.
    pub prompt: String,
    /// Its candidate.
    pub candidate: String,
    /// Evaluations of the reference, all branches.
    pub evaluations: usize,
    /// Evaluations whose blocks ran here.
    pub computed: usize,
    /// Longest run of reuses in one branch.
    pub reused_in_a_row: usize,
    /// Seconds of the sampling loop.
    pub seconds: f64,
    /// Those of the reference, measured in the same process.
    pub reference_seconds: f64,
    /// Nearness to the reference.
    pub quality: Quality,
    /// Per branch, `C` and `s` in order.
    pub decisions: BTreeMap<String, String>,
    /// Names of what the cache measured.
    #[serde(default)]
    pub measures: Vec<String>,
    /// What it measured at each evaluation of the first branch.
    pub measured: Vec<Vec<f64>>,
    /// `mean |v - v_ref| / mean |v_ref|` of each evaluation, branch after branch: what reuse adds
    /// and what the latents have drifted. Empty where the step count differs.
    pub velocity_errors: Vec<f64>,
    /// The same of the residual, what the blocks add to the hidden states; none where a cached
    /// output stood in for the model. In large models over every n-th token, evenly.
    #[serde(default)]
    pub residual_errors: Vec<Option<f64>>,
    /// What the caches declared, all branches.
    pub declared_bytes: u64,
    /// What they held at most.
    pub held_bytes: u64,
    /// Frames of this run, and of the reference; relative to the report.
    pub picture: String,
    /// See [`picture`](Self::picture).
    pub reference_picture: String,
}

/// The runs of a folder.
pub struct Runs {
    path: PathBuf,
    file: File,
    runs: BTreeMap<String, Run>,
}

impl Runs {
    /// Opens the file; a line that was cut off by a crash is left out and will be run again.
    ///
    /// # Errors
    /// If the file cannot be read or made, or another line is no run.
    pub fn open(path: &Path) -> Result<Self> {
        let text = match files::text(path, Content::Report) {
            Ok(text) => text,
            Err(error) if error.is_absence() => String::new(),
            Err(error) => return Err(error.into()),
        };
        let mut runs = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            match serde_json::from_str::<Run>(line) {
                Ok(run) => drop(runs.insert(run.key.clone(), run)),
                // Cut off by a crash.
                Err(e) if e.is_eof() => {}
                Err(e) => {
                    let place = format!("{}, line {}", path.display(), index + 1);
                    return Err(Error::invalid(format!(
                        "{place}: not a run ({e}); remove the line to run it again"
                    )));
                }
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.map_err(Error::io(path))?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(Error::io(path))?;
        }
        Ok(Self { path: path.into(), file, runs })
    }

    /// The run of this key.
    pub fn find(&self, key: &str) -> Option<&Run> {
        self.runs.get(key)
    }

    /// Adds a run; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, run: Run) -> Result<()> {
        let line = serde_json::to_string(&run).map_err(|e| Error::invalid(e.to_string()))?;
        writeln!(self.file, "{line}")
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io(&self.path))?;
        self.runs.insert(run.key.clone(), run);
        Ok(())
    }
}

/// SHA-256 of a value's JSON.
pub(super) fn key<T: Serialize>(of: &T) -> Result<String> {
    let json = serde_json::to_vec(of).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(hex::encode(Sha256::digest(json)))
}
