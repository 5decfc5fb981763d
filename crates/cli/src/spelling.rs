//! How flags are written: with underscores or hyphens on the command line, with dashes in messages.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;

/// Rewrites `--some-flag=value` to `--some_flag=value`, so that both spellings work.
pub(super) fn with_underscores(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    match text.strip_prefix("--") {
        Some(rest) if !rest.is_empty() => {
            let (name, value) = rest.split_at(rest.find('=').unwrap_or(rest.len()));
            format!("--{}{value}", name.replace('-', "_")).into()
        }
        _ => argument,
    }
}

/// Every value of a flag that must be known before the command line is read.
pub(super) fn early<'a>(
    arguments: &'a [OsString],
    flag: &'static str,
) -> impl Iterator<Item = PathBuf> + use<'a> {
    arguments.iter().enumerate().filter_map(move |(place, argument)| {
        let text = argument.to_string_lossy();
        let rest = text.strip_prefix("--")?.strip_prefix(flag)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.into()),
            None if rest.is_empty() => arguments.get(place + 1).map(PathBuf::from),
            None => None,
        }
    })
}

/// A message of the library as the command line says it: fields in backticks become flags of
/// `program`.
pub(super) fn with_dashes(message: &str, program: Command) -> String {
    // Options of strategies have other names than the flags that set them one by one.
    let mut flags = vec![("sampler_options".into(), "sampler_option".into())];
    flags.push(("cache_options".into(), "cache_option".into()));
    let mut commands = vec![program];
    while let Some(command) = commands.pop() {
        let names = command.get_arguments().filter_map(|arg| arg.get_long());
        flags.extend(names.map(|name| (name.to_string(), name.to_string())));
        commands.extend(command.get_subcommands().cloned());
    }
    flags.iter().fold(message.to_string(), |text, (field, flag)| {
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
