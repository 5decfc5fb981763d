//! `wan plugins`: list them, look at one, write one, check one.

mod check;
mod list;
mod new;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
use wan_host::parts::Registry;
use wan_host::{Error, Result};

use super::args::{flag, json, plugin_dir};

pub(super) fn command() -> Command {
    let list = Command::new("list")
        .about("List samplers and caches with their options")
        .args([json(), plugin_dir()]);
    Command::new("plugins")
        .about("Samplers and caches: list, look at, write and check them")
        .after_help(
            "Loading a library runs its code with your rights. With a list of SHA-256, one a line, \
             in --plugin_allow FILE or in wan/plugins.allow of your settings folder, a library \
             that is not on it is refused.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(list)
        .subcommand(show::command())
        .subcommand(new::command())
        .subcommand(check::command())
        .subcommand(check::answer_command())
}

/// The flag of the list of libraries that may be loaded; every command has it.
pub(super) fn plugin_allow() -> clap::Arg {
    flag("plugin_allow", "FILE", "Load only libraries whose SHA-256 is listed in FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help_heading("Plugins")
}

/// Whether the command line needs no plugin: then none is loaded, for one of them may be the very
/// library that is to be checked.
pub(super) fn needs_none(arguments: &[OsString]) -> bool {
    let mut words =
        arguments.iter().skip(1).filter(|word| !word.to_string_lossy().starts_with('-'));
    let mut is = |among: &[&str]| words.next().is_some_and(|w| among.iter().any(|a| w == *a));
    is(&["plugins"]) && is(&["new", "check", "answer"])
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("list", matches)) => list::run(registry, matches),
        Some(("show", matches)) => show::run(registry, matches),
        Some(("new", matches)) => new::run(matches),
        Some(("check", matches)) => check::run(registry, matches),
        Some(("answer", matches)) => check::answer(matches),
        _ => Err(Error::invalid("wan plugins list | show | new | check")),
    }
}
