//! What an unfinished run is, as its folder says: settings, model, strategies, program, processor.

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wan_border::files::parse_json;

use crate::device::processor::abilities;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::settings::Settings;
use crate::output::sidecar::Sidecar;

/// What an unfinished run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recipe {
    /// The sidecar before the first round: settings with their origins, the files of the model, the
    /// strategies.
    pub sidecar: Sidecar,
    /// Shape of all latents, `[1, C, F, H, W]`.
    pub latent_shape: [usize; 5],
    /// The program.
    pub program: ProgramReport,
    /// Abilities of the processor by which kernels are chosen.
    pub processor: Vec<String>,
    /// What whoever began the run has to know when it goes on.
    #[serde(default)]
    pub wanted: Value,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramReport {
    /// Version of this library.
    pub version: String,
    /// SHA-256 of the program's file, where the system tells.
    pub hash: Option<String>,
}

impl ProgramReport {
    /// This one.
    fn own() -> Self {
        let hash = hash_of_program().inspect_err(|error| {
            tracing::warn!(%error, "the program's own file cannot be read");
        });
        Self { version: env!("CARGO_PKG_VERSION").into(), hash: hash.ok() }
    }
}

/// SHA-256 of the file of this program.
fn hash_of_program() -> std::io::Result<String> {
    let mut file = std::fs::File::open(std::env::current_exe()?)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

impl Recipe {
    /// Of a run of these settings. `wanted` is for whoever goes on with it.
    pub fn of(model: &Model, settings: &Settings, wanted: Value) -> Self {
        Self {
            sidecar: model.sidecar_before(settings),
            latent_shape: model.latent_shape(settings),
            program: ProgramReport::own(),
            processor: abilities(),
            wanted,
        }
    }

    /// As JSON.
    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::invalid(error.to_string()))
    }

    /// What [`to_text`](Self::to_text) wrote.
    pub(super) fn of_text(text: &str) -> std::result::Result<Self, String> {
        parse_json(text)
    }

    /// What has changed since the run was begun, a line each: program, weights, strategies, device,
    /// processor.
    pub fn changes(&self, model: &Model, settings: &Settings) -> Vec<String> {
        let mut changes = model.changes_since(&self.sidecar, settings);
        let own = ProgramReport::own();
        if own.version == self.program.version && own.hash != self.program.hash {
            changes.push(format!("wan {} is another build", own.version));
        }
        let device = crate::device::describe(model.device());
        if device != self.sidecar.device {
            changes.push(format!("it was computed on {}, now on {device}", self.sidecar.device));
        }
        let now = abilities();
        if now != self.processor {
            let [then, now] = [&self.processor, &now].map(|list| list.join(" "));
            changes.push(format!("the processor has {now}, it had {then}"));
        }
        changes
    }
}
