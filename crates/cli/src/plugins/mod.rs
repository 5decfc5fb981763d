//! `wan plugins`: list them, look at one, write one, check one.

mod check;
mod found;
mod list;
mod new;
mod show;

use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
pub(crate) use found::Found;
use wan_host::parts::Registry;
use wan_host::{Error, Result};

use super::args::{flag, json, plugin_dir, plugin_timeout};

pub(super) fn command() -> Command {
    let list = Command::new("list").about("List samplers and caches with their options").args([
        json(),
        plugin_dir(),
        plugin_timeout(),
    ]);
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

/// Whether a command, as `cache` and `plan`, uses strategies. For all others no library is opened:
/// one of them may be the very library that is to be checked.
pub(super) fn are_used(commands: &[String]) -> bool {
    let words: Vec<&str> = commands.iter().map(String::as_str).filter(|w| *w != "help").collect();
    match words[..] {
        ["generate" | "plan" | "resume"] => true,
        ["cache", command] => command != "calibrate",
        ["plugins", command] => ["list", "show"].contains(&command),
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use wan_host::parts::Registry;

    use super::*;

    fn visit(command: &Command, path: &[String], see: &mut impl FnMut(&Command, &[String])) {
        see(command, path);
        for inner in command.get_subcommands() {
            visit(inner, &[path, &[inner.get_name().to_string()]].concat(), see);
        }
    }

    #[test]
    fn every_command_that_takes_a_sampler_opens_libraries() {
        let registry = Registry::built_in().unwrap();
        let mut count = 0;
        visit(&crate::command(&registry), &[], &mut |command, path| {
            if command.get_arguments().any(|argument| argument.get_id() == "sampler") {
                assert!(are_used(path), "{path:?}");
                count += 1;
            }
        });
        assert!(count >= 3, "{count}");
    }
}
