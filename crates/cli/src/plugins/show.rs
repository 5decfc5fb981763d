//! `wan plugins show ID|LIB`.

use std::path::Path;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use wan_host::parts::{Kind, Registered, Registry};
use wan_host::{Error, Result};
use wan_plugin_api::options::did_you_mean;
use wan_plugin_api::{OptionKind, OptionSpec, Strategy};

use crate::args::{json as json_flag, plugin_dir, plugin_timeout};

pub(super) fn command() -> Command {
    Command::new("show")
        .about("Say all there is to say of a sampler, a cache or a library")
        .arg(
            Arg::new("what")
                .required(true)
                .value_name("ID|LIB")
                .help("Id of a sampler or cache, or the file of a library"),
        )
        .args([json_flag(), plugin_dir(), plugin_timeout()])
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let what = matches.get_one::<String>("what").map_or("", String::as_str);
    let shown = match library(matches) {
        Some(path) => of_library(registry, path)?,
        None => of_id(registry, what)?,
    };
    if matches.get_flag("json") {
        say!("{:#}", json!(shown));
    } else {
        shown.iter().for_each(print);
    }
    Ok(())
}

/// The library that the command names, if it names one.
pub(super) fn library(matches: &ArgMatches) -> Option<&Path> {
    let what = matches.get_one::<String>("what").map_or("", String::as_str);
    is_file(what).then(|| Path::new(what))
}

/// An id has no folder and is not called as a library is.
fn is_file(what: &str) -> bool {
    let path = Path::new(what);
    let is_library = path.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION);
    is_library || path.components().count() > 1
}

fn of_library(registry: &Registry, path: &Path) -> Result<Vec<Value>> {
    let mut alone = registry.emptied();
    alone.add_file(path)?;
    Ok(alone.plugins().flat_map(strategies).collect())
}

fn of_id(registry: &Registry, id: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = registry.plugins().flat_map(strategies).collect();
    let found: Vec<Value> = all.iter().filter(|s| s["id"] == id).cloned().collect();
    if found.is_empty() {
        let known = all.iter().filter_map(|s| s["id"].as_str());
        return Err(Error::invalid(format!(
            "there is no sampler or cache {id}{}",
            did_you_mean(id, known)
        )));
    }
    Ok(found)
}

/// All strategies of a plugin, each with everything that is known of it.
pub(super) fn strategies(plugin: &Registered) -> Vec<Value> {
    let of_kind = |kind: Kind| {
        kind.of(&plugin.description).iter().map(move |strategy| describe(plugin, kind, strategy))
    };
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

/// Where a plugin lies, in words.
pub(super) fn place(plugin: &Registered) -> String {
    plugin.source.path.as_ref().map_or("built in".into(), |path| path.display().to_string())
}

fn describe(plugin: &Registered, kind: Kind, strategy: &Strategy) -> Value {
    json!({
        "id": strategy.id,
        "kind": kind.word(),
        "doc": strategy.doc,
        "plugin": plugin.description.name,
        "version": plugin.description.version,
        "epoch": plugin.epoch,
        "licence": plugin.description.licence,
        "path": plugin.source.path,
        "hash": plugin.source.hash,
        "options": strategy.options.iter().map(option).collect::<Vec<_>>(),
        "extensions": strategy.extensions,
    })
}

fn option(spec: &OptionSpec) -> Value {
    let (kind, range) = match &spec.kind {
        OptionKind::Bool => ("bool", Value::Null),
        OptionKind::Int { min, max } => ("int", json!([min, max])),
        OptionKind::Float { min, max } => ("float", json!([min, max])),
        OptionKind::Choice(words) => ("choice", json!(words)),
        OptionKind::FloatList => ("float_list", Value::Null),
        OptionKind::Document => ("document", Value::Null),
    };
    json!({
        "name": spec.name,
        "type": kind,
        "default": spec.default,
        "range": range,
        "allowed": spec.allowed(),
        "doc": spec.doc,
        "flag": spec.flag,
    })
}

fn print(strategy: &Value) {
    let text = |name: &str| strategy[name].as_str().unwrap_or("-").to_string();
    say!("{} {}: {}", text("kind"), text("id"), text("doc"));
    say!(
        "  of {} {} ({}), interface epoch {}",
        text("plugin"),
        text("version"),
        text("licence"),
        strategy["epoch"]
    );
    match strategy["path"].as_str() {
        Some(path) => say!("  {path}\n  sha256 {}", text("hash")),
        None => say!("  built in"),
    }
    for option in strategy["options"].as_array().into_iter().flatten() {
        let text = |name: &str| option[name].as_str().unwrap_or_default();
        say!("  {} = {}  ({})", text("name"), option["default"], text("allowed"));
        say!("      {}", text("doc"));
        if let Some(flag) = option["flag"].as_str() {
            say!("      also --{flag}");
        }
    }
    for extension in strategy["extensions"].as_array().into_iter().flatten() {
        say!("  answers to {}", extension.as_str().unwrap_or_default());
    }
    say!("");
}
