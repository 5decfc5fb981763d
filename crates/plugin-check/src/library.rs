//! The library as a whole.

use std::collections::BTreeSet;
use std::path::Path;

use wan_host::parts::OpenedPlugin;
use wan_plugin_api::manifest::Manifest;
use wan_plugin_api::{PluginDescription, Strategy};

use super::outcome::{Checked, Failed, Outcome, ensure};

/// Longest id, and longest name of an option.
const NAME_MAX: usize = 48;

/// Longest line of documentation.
const DOC_MAX: usize = 160;

pub(super) fn open(path: &Path) -> Checked<OpenedPlugin> {
    OpenedPlugin::open(path, None).map_err(|refusal| Failed(refusal.to_string()))
}

pub(super) fn manifest(manifest: &Manifest, description: &PluginDescription) -> Checked {
    let Manifest { name, version, licence, built_with, epoch, .. } = manifest;
    for (what, first, second) in [
        ("name", name, &description.name),
        ("version", version, &description.version),
        ("licence", licence, &description.licence),
    ] {
        ensure!(
            first == second,
            "the manifest's {what} is {first:?}, the description's {second:?}"
        );
    }
    let facts = format!("{name} {version}, epoch {epoch}, built with wan-plugin-api {built_with}");
    match built_with == env!("CARGO_PKG_VERSION") {
        true => Ok(Outcome::pass(facts)),
        false => Ok(Outcome::warn(format!(
            "{facts}; this host has {}, and both speak epoch {epoch}",
            env!("CARGO_PKG_VERSION")
        ))),
    }
}

pub(super) fn metadata(description: &PluginDescription) -> Checked {
    let PluginDescription { name, version, samplers, caches, .. } = description;
    ensure!(!name.is_empty(), "the package has no name");
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let is_version = numbers.split('.').filter(|n| n.parse::<u64>().is_ok()).count() == 3;
    ensure!(is_version, "version {version:?} is not MAJOR.MINOR.PATCH");
    ensure!(!(samplers.is_empty() && caches.is_empty()), "it offers no sampler and no cache");
    for (kind, strategies) in [("sampler", samplers), ("cache", caches)] {
        let mut ids = BTreeSet::new();
        for strategy in strategies {
            ensure!(ids.insert(&strategy.id), "two {kind}s are called {}", strategy.id);
            check_strategy(kind, strategy)?;
        }
    }
    licence(&description.licence)
}

fn licence(licence: &str) -> Checked {
    if licence.trim().is_empty() {
        return Ok(Outcome::warn(
            "no licence: nobody may pass it on; set `license` in Cargo.toml, as \"Apache-2.0\"",
        ));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.+() ".contains(c);
    match licence.chars().all(fits) {
        true => Ok(Outcome::pass("")),
        false => Ok(Outcome::warn(format!("licence {licence:?} is no SPDX expression"))),
    }
}

fn check_strategy(kind: &str, strategy: &Strategy) -> Checked<()> {
    let id = &strategy.id;
    name(&format!("{kind} id"), id, "-.+")?;
    doc(&format!("{kind} {id}"), &strategy.doc)?;
    let mut names = BTreeSet::new();
    for option in &strategy.options {
        let owner = format!("option {} of {id}", option.name);
        ensure!(names.insert(&option.name), "{id} has two options called {}", option.name);
        name(&owner, &option.name, "_")?;
        doc(&owner, &option.doc)?;
        if let Some(flag) = &option.flag {
            // Flags keep the names that users know from elsewhere, capitals included.
            name(&format!("the flag of {owner}"), &flag.to_lowercase(), "_")?;
        }
    }
    for extension in &strategy.extensions {
        // As `wan.cache.frame-decisions/1-draft`.
        let revision = extension.rsplit_once('/').map(|(_, revision)| revision);
        let numbered = revision.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        ensure!(numbered, "extension {extension:?} of {id} has no revision, as `name/1`");
    }
    Ok(())
}

fn name(owner: &str, name: &str, signs: &str) -> Checked<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || signs.contains(c);
    ensure!(
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits),
        "{owner} {name:?}: lower-case letters, digits and `{signs}`, a letter first"
    );
    ensure!(name.len() <= NAME_MAX, "{owner} {name:?} is longer than {NAME_MAX} characters");
    Ok(())
}

fn doc(owner: &str, doc: &str) -> Checked<()> {
    ensure!(!doc.trim().is_empty(), "{owner} has no documentation");
    ensure!(!doc.contains('\n'), "{owner}: its documentation is more than one line");
    ensure!(
        doc.chars().count() <= DOC_MAX,
        "{owner}: its documentation is over {DOC_MAX} characters"
    );
    Ok(())
}
