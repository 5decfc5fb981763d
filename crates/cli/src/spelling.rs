//! How flags are written: with underscores or hyphens on the command line, with dashes in messages.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;

/// What ends the flags: all words behind it are values.
pub(super) const END: &str = "--";

/// Rewrites `--some-flag=value` to `--some_flag=value`, so that both spellings work.
pub(super) fn with_underscores(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_over = false;
    let spelt = |argument: OsString| {
        is_over |= argument == END;
        if is_over { argument } else { flag_with_underscores(argument) }
    };
    arguments.map(spelt).collect()
}

fn flag_with_underscores(argument: OsString) -> OsString {
    let Some(rest) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
        return argument;
    };
    let (name, value) = rest.split_at(rest.find('=').unwrap_or(rest.len()));
    format!("--{}{value}", name.replace('-', "_")).into()
}

/// Every flag of `program` and its commands, aliases and those of clap included, without dashes.
pub(super) fn flags(program: Command) -> BTreeSet<String> {
    let mut flags = BTreeSet::from(["help", "version"].map(String::from));
    let mut commands = vec![program];
    while let Some(command) = commands.pop() {
        for argument in command.get_arguments() {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            let names = argument.get_long().into_iter().chain(aliases);
            flags.extend(names.map(String::from));
        }
        commands.extend(command.get_subcommands().cloned());
    }
    flags
}

/// A message of the library as the command line says it: fields in backticks become flags of
/// `program`.
pub(super) fn with_dashes(message: &str, program: Command) -> String {
    // Options of strategies have other names than the flags that set them one by one.
    let options = [("sampler_options", "sampler_option"), ("cache_options", "cache_option")];
    let own = flags(program);
    let own = own.iter().map(|name| (name.as_str(), name.as_str()));
    options.into_iter().chain(own).fold(message.to_string(), |text, (field, flag)| {
        text.replace(&format!("`{field}`"), &format!("--{flag}"))
    })
}

/// What clap says against the flags, in one line, without the usage that follows it.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let facts = text.split("\n\nUsage:").next().unwrap_or(&text);
    let facts = facts.trim_start_matches("error: ").replace("tip: ", "; ");
    facts.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ;", ";")
}
