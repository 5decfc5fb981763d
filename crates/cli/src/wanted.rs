//! What is to become of a run, as its folder remembers it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wan_host::{Error, Metadata, Recipe, Result, Sidecar};

/// What is to become of a run beside its video, whose name is that of the folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The latents are to stay beside the video.
    pub(crate) keep_latents: bool,
    /// The contact sheet.
    pub(crate) contact_sheet: Option<PathBuf>,
    /// The picture that is rewritten; of this process alone.
    #[serde(skip)]
    pub(crate) preview: Option<PathBuf>,
    /// What the tags of the video hold.
    pub(crate) metadata: Metadata,
    /// The run is to be compared with one without its cache.
    pub(crate) cache_report: bool,
    /// The folder is to stay.
    pub(crate) keep_run: bool,
    /// Files that this program did not make may be replaced.
    pub(crate) overwrite: bool,
    /// The sidecar that the run makes again.
    pub(crate) reproduces: Option<Reproduced>,
}

/// A sidecar whose video is made again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reproduced {
    /// Its bare name.
    pub(crate) name: String,
    /// Its `latents_hash`.
    pub(crate) latents_hash: String,
    /// Its `device`.
    pub(crate) device: String,
    /// Settings that flags change.
    pub(crate) changed: Vec<String>,
    /// Whether other latents are no error.
    pub(crate) allow_changes: bool,
}

impl Wanted {
    /// As the folder of the run remembers it.
    pub(crate) fn to_value(&self) -> Value {
        // Plain values alone.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What the folder of an unfinished run remembers.
    ///
    /// # Errors
    /// If it is none of this program.
    pub(crate) fn of(recipe: &Recipe, folder: &Path) -> Result<Self> {
        serde_json::from_value(recipe.wanted.clone()).map_err(|said| {
            Error::malformed(format!("{}: what is wanted of the run", folder.display()), said)
        })
    }
}

impl Reproduced {
    /// Compares the latents with the recorded ones, unless settings were changed, and names the
    /// recorded video in the sidecar of a changed one.
    ///
    /// # Errors
    /// If they differ though nothing else did.
    pub(crate) fn check(&self, now: &mut Sidecar) -> Result<()> {
        if !self.changed.is_empty() {
            note!("made from {} with another {}", self.name, self.changed.join(", "));
            now.changed_from(&self.name, &self.latents_hash, self.changed.clone());
            return Ok(());
        }
        let are_equal = now.latents_hash == self.latents_hash;
        if !are_equal && !self.allow_changes {
            return Err(Error::invalid(format!(
                "the latents differ from the recorded ones, made on {} and now on {}: another \
                 kind of processor? --allow_changes writes the video all the same",
                self.device, now.device
            )));
        }
        let how = if are_equal {
            "equal the recorded ones bit for bit"
        } else {
            "differ from the recorded ones"
        };
        note!("the latents {how}");
        Ok(())
    }
}
