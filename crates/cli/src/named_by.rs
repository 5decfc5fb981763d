//! Which flag named the file that an error is about.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The flag of this command line whose file the message names, if the message does not name it.
/// `matches` are those of `command`.
pub(super) fn flag(message: &str, command: &Command, matches: &ArgMatches) -> Option<String> {
    if let Some((name, matches)) = matches.subcommand() {
        return flag(message, command.find_subcommand(name)?, matches);
    }
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flags = command.get_arguments().filter_map(|arg| arg.get_long()).filter(given);
    let mut named = flags.filter(|flag| {
        let paths = matches.try_get_many::<PathBuf>(flag).ok().flatten().into_iter().flatten();
        let is_named = |path: &PathBuf| {
            let text = path.display().to_string();
            !text.is_empty() && message.starts_with(&text)
        };
        paths.into_iter().any(is_named)
    });
    named.find(|flag| !message.contains(&format!("`{flag}`"))).map(String::from)
}
