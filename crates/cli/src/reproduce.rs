//! `wan generate --reproduce NAME.json`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Id};
use wan_host::{Error, Model, Request, Result, Settings, Sidecar};

use super::request::request_over;
use super::run_flags::request_of;
use super::wanted::Reproduced;

/// Flags that go with `--reproduce` and change no latents.
const ALLOWED: [&str; 23] = [
    "reproduce",
    "allow_changes",
    "given_dir",
    "ckpt_dir",
    "device",
    "kernels",
    "no_prompt_cache",
    "tokenizer",
    "vae_tiling",
    "plugin_dir",
    "plugin_timeout",
    "save_file",
    "overwrite",
    "metadata",
    "progress",
    "keep_latents",
    "contact_sheet",
    "preview",
    "cache_report",
    "checkpoint_every",
    "require_resume",
    "keep_run",
    "stop_after",
];

/// Flags that name a model, or another request: the recorded ones are taken.
const REFUSED: [&str; 7] =
    ["job", "task", "transformer", "transformer_2", "vae", "text_encoder", "image_encoder"];

/// A sidecar whose video is to be made again, as it was or with changes.
pub(super) struct Recorded {
    pub(super) sidecar: Sidecar,
    /// Bare name of the sidecar.
    name: String,
    allow_changes: bool,
    /// Settings that flags change.
    changed: Vec<String>,
}

impl Recorded {
    /// The sidecar that the user named, if any, with its given files found again.
    ///
    /// # Errors
    /// If it or a given file cannot be read, or a flag does not go with it.
    pub(super) fn read(matches: &ArgMatches) -> Result<Option<Self>> {
        let Some(path) = matches.get_one::<PathBuf>("reproduce") else { return Ok(None) };
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let flags: Vec<&str> = matches.ids().map(Id::as_str).filter(|id| given(id)).collect();
        if let Some(flag) = flags.iter().find(|flag| REFUSED.contains(flag)) {
            return Err(Error::invalid(format!(
                "`reproduce` takes the model and the request from the sidecar; leave out `{flag}`"
            )));
        }
        let mut sidecar = Sidecar::read(path)?;
        let folders = matches.get_many::<PathBuf>("given_dir").into_iter().flatten();
        sidecar.find_given(path, &folders.cloned().collect::<Vec<_>>())?;
        let changed = flags.into_iter().filter(|flag| !ALLOWED.contains(flag)).map(String::from);
        Ok(Some(Self {
            sidecar,
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            allow_changes: matches.get_flag("allow_changes"),
            changed: changed.collect(),
        }))
    }

    /// The recorded settings, for this model, with the changes that flags ask for.
    ///
    /// # Errors
    /// If they do not fit it.
    pub(super) fn settings(&self, model: &Model, matches: &ArgMatches) -> Result<Settings> {
        let settings = if self.changed.is_empty() {
            model.settle_again(&self.sidecar)?
        } else {
            let recorded = Request::from(&self.sidecar.settings);
            let request = request_over(model, matches, recorded)?;
            let changes = request_of(matches, Request::default());
            model.settle_changed(&self.sidecar, &request, &changes)?
        };
        settings.notices().iter().for_each(|notice| note!("{notice}"));
        let tiling = settings.vae_tiling || matches.get_flag("vae_tiling");
        Ok(settings.with_vae_tiling(tiling))
    }

    /// What its latents are to be compared with.
    pub(super) fn reproduced(&self) -> Reproduced {
        Reproduced {
            name: self.name.clone(),
            latents_hash: self.sidecar.latents_hash.clone(),
            device: self.sidecar.device.clone(),
            changed: self.changed.clone(),
            allow_changes: self.allow_changes,
        }
    }

    /// Compares program, model and plugins with those that made the recorded video.
    ///
    /// # Errors
    /// If any of them changed, unless changes are allowed: then they are only named.
    pub(super) fn check_parts(&self, model: &Model, settings: &Settings) -> Result<()> {
        let changes = model.changes_since(&self.sidecar, settings);
        if !changes.is_empty() && !self.allow_changes {
            return Err(Error::invalid(format!(
                "cannot reproduce: {}; --allow_changes goes on all the same",
                changes.join("; ")
            )));
        }
        changes.iter().for_each(|change| note!("since then {change}"));
        Ok(())
    }
}
