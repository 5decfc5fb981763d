//! The library as a whole.

use std::path::Path;

use wan_host::parts::{Kind, OpenedPlugin, Registry};
use wan_plugin_api::manifest::Manifest;
use wan_plugin_api::{PluginDescription, Strategy};

use super::outcome::{Checked, Failed, Outcome, Status, ensure};

/// Longest line of documentation.
const DOC_MAX: usize = 160;

/// Opens a library, which has to be the file of this SHA-256, if one is named.
pub(super) fn open(path: &Path, hash: Option<&str>) -> Checked<OpenedPlugin> {
    let opened = match hash {
        Some(hash) => OpenedPlugin::open_again(path, hash),
        None => OpenedPlugin::open(path, None),
    };
    opened.map_err(|refusal| Failed(refusal.to_string()))
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
    if built_with.is_empty() {
        return Ok(Outcome::pass(format!("{name} {version}, epoch {epoch}, in C")));
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
    description.check_names()?;
    for (kind, strategies) in [("sampler", samplers), ("cache", caches)] {
        strategies.iter().try_for_each(|strategy| check_words(kind, strategy))?;
    }
    licence(&description.licence)
}

/// Looks at what a program has already: a flag of its own is no library's, and an id that is taken
/// keeps a sound library out of this program alone.
pub(super) fn stand_beside(
    program: &Registry,
    description: &PluginDescription,
    outcome: &mut Outcome,
) {
    let strategies = Kind::ALL
        .into_iter()
        .flat_map(|kind| kind.of(description).iter().map(move |strategy| (kind, strategy)));
    for (kind, strategy) in strategies {
        if !outcome.status.is_good() {
            return;
        }
        if let Some(flag) = program.taken_flag(strategy) {
            *outcome = Outcome::new(Status::Fail, flag);
        } else if let Some(id) = program.taken_id(kind, strategy)
            && outcome.status == Status::Pass
        {
            *outcome = Outcome::warn(id);
        }
    }
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

fn check_words(kind: &str, strategy: &Strategy) -> Checked<()> {
    let id = &strategy.id;
    doc(&format!("{kind} {id}"), &strategy.doc)?;
    for option in &strategy.options {
        doc(&format!("option {} of {id}", option.name), &option.doc)?;
    }
    for extension in &strategy.extensions {
        // As `wan.cache.block-decisions/1`.
        let revision = extension.rsplit_once('/').map(|(_, revision)| revision);
        let numbered = revision.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        ensure!(numbered, "extension {extension:?} of {id} has no revision, as `name/1`");
    }
    Ok(())
}

fn doc(owner: &str, doc: &str) -> Checked<()> {
    ensure!(!doc.trim().is_empty(), "{owner} has no documentation");
    ensure!(!doc.contains('\n'), "{owner}: its documentation is more than one line");
    ensure!(!doc.contains(char::is_control), "{owner}: its documentation has control characters");
    ensure!(
        doc.chars().count() <= DOC_MAX,
        "{owner}: its documentation is over {DOC_MAX} characters"
    );
    Ok(())
}
