//! Which flag named the file that an error is about.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

/// The flag of this command line whose file the message names, if the message does not name it.
pub(super) fn flag<'m>(message: &str, matches: &'m ArgMatches) -> Option<&'m str> {
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flags = matches.ids().map(clap::Id::as_str).filter(given);
    let mut named = flags.filter(|flag| {
        let paths = matches.try_get_many::<PathBuf>(flag).ok().flatten().into_iter().flatten();
        let is_named = |path: &PathBuf| {
            let text = path.display().to_string();
            !text.is_empty() && message.starts_with(&text)
        };
        paths.into_iter().any(is_named)
    });
    named.find(|flag| !message.contains(&format!("`{flag}`")))
}
