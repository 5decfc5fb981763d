//! `wan generate --reproduce NAME.json`.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;
use wan_host::{Error, Model, Result, Settings, Sidecar};

/// Flags that go with `--reproduce`: none of them changes the latents.
const ALLOWED: [&str; 12] = [
    "reproduce",
    "allow_changes",
    "ckpt_dir",
    "device",
    "tokenizer",
    "vae_tiling",
    "plugin_dir",
    "save_file",
    "progress",
    "keep_latents",
    "contact_sheet",
    "cache_report",
];

/// A sidecar whose video is to be made again.
pub(super) struct Recorded {
    pub(super) sidecar: Sidecar,
    allow_changes: bool,
}

impl Recorded {
    /// The sidecar that the user named, if any.
    ///
    /// # Errors
    /// If it cannot be read, or a flag would change what it says.
    pub(super) fn read(matches: &ArgMatches) -> Result<Option<Self>> {
        let Some(path) = matches.get_one::<PathBuf>("reproduce") else { return Ok(None) };
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let other =
            matches.ids().map(|id| id.as_str()).find(|id| given(id) && !ALLOWED.contains(id));
        if let Some(flag) = other {
            return Err(Error::invalid(format!(
                "--reproduce takes every setting from the sidecar; leave out --{flag}"
            )));
        }
        let allow_changes = matches.get_flag("allow_changes");
        Ok(Some(Self { sidecar: Sidecar::read(path)?, allow_changes }))
    }

    /// The recorded settings, for this model.
    ///
    /// # Errors
    /// If they do not fit it.
    pub(super) fn settings(&self, model: &Model, matches: &ArgMatches) -> Result<Settings> {
        let settings = model.settle_again(&self.sidecar)?;
        settings.notices().iter().for_each(|notice| eprintln!("wan: {notice}"));
        let tiling = settings.vae_tiling || matches.get_flag("vae_tiling");
        Ok(settings.with_vae_tiling(tiling))
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
        changes.iter().for_each(|change| eprintln!("wan: since then {change}"));
        Ok(())
    }

    /// Compares the latents with the recorded ones.
    ///
    /// # Errors
    /// If they differ though nothing else did.
    pub(super) fn check_latents(&self, now: &Sidecar) -> Result<()> {
        let are_equal = now.latents_hash == self.sidecar.latents_hash;
        if !are_equal && !self.allow_changes {
            return Err(Error::invalid(format!(
                "the latents differ from the recorded ones, made on {} and now on {}: another \
                 kind of processor? --allow_changes writes the video all the same",
                self.sidecar.device, now.device
            )));
        }
        let how = if are_equal {
            "equal the recorded ones bit for bit"
        } else {
            "differ from the recorded ones"
        };
        eprintln!("wan: the latents {how}");
        Ok(())
    }
}
