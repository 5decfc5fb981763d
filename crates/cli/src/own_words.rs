//! A command line read for the first time: what of it needs no library.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Command;

use super::spelling::END;

// What has to be known before libraries are opened.
const PLUGIN_DIR: &str = "plugin_dir";
pub(super) const PLUGIN_ALLOW: &str = "plugin_allow";

/// A command line without the flags that only a strategy can have.
///
/// Strategies bring flags of their own, and nobody knows which before their libraries are opened.
/// So the line is read twice, and this is what is read first.
#[derive(Debug, Default)]
pub(super) struct OwnWords {
    /// The words, flags of strategies left out.
    pub(super) words: Vec<OsString>,
    /// The commands: `cache`, `plan`.
    pub(super) commands: Vec<String>,
    /// Values of `--plugin_dir`.
    pub(super) plugin_dirs: Vec<PathBuf>,
    /// The last value of `--plugin_allow`.
    pub(super) plugin_allow: Option<PathBuf>,
}

impl OwnWords {
    /// The words of `arguments` that `program`, built without any library, knows.
    ///
    /// The value of a flag is never looked at as a flag. An unknown `--name` takes the next word
    /// with it unless that begins with `--`. A command that takes no flags of strategies keeps what
    /// it does not know, so that it is refused at once.
    pub(super) fn of(arguments: &[OsString], program: &Command) -> Self {
        let mut own = Self::default();
        let mut commands = vec![program];
        let mut words = arguments.iter().peekable();
        own.words.extend(words.next().cloned());
        while let Some(word) = words.next() {
            own.words.push(word.clone());
            let text = word.to_string_lossy();
            if text == END {
                own.words.extend(words.cloned());
                break;
            }
            let Some(flag) = text.strip_prefix("--") else {
                own.enter(&text, &mut commands);
                continue;
            };
            let (name, written) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (flag, None),
            };
            let (known, of_strategies) = (known(&commands, name), takes_strategies(&commands));
            let has_value = known.as_ref().map_or(of_strategies, |known| known.takes_value);
            let is_value = |next: &&OsString| !next.to_string_lossy().starts_with("--");
            let follows =
                if has_value && written.is_none() { words.next_if(is_value) } else { None };
            match known {
                None if of_strategies => drop(own.words.pop()),
                None => {}
                Some(known) => {
                    own.words.extend(follows.cloned());
                    own.note(&known.name, written.or_else(|| follows.cloned()));
                }
            }
        }
        own
    }

    /// A word that is no flag: perhaps a command.
    fn enter(&mut self, word: &str, commands: &mut Vec<&Command>) {
        let next = commands.last().and_then(|command| command.find_subcommand(word));
        if let Some(next) = next {
            self.commands.push(next.get_name().into());
            commands.push(next);
        }
    }

    fn note(&mut self, name: &str, value: Option<OsString>) {
        let Some(value) = value.map(PathBuf::from) else { return };
        match name {
            PLUGIN_DIR => self.plugin_dirs.push(value),
            PLUGIN_ALLOW => self.plugin_allow = Some(value),
            _ => {}
        }
    }
}

/// The words, where a value that begins with `-` is joined to its flag: `--fps=-inf`. So it is
/// refused by its flag, not as another flag. What begins with `--` is a flag.
pub(super) fn joined(arguments: &[OsString], program: &Command) -> Vec<OsString> {
    let mut commands = vec![program];
    let mut words = arguments.iter().peekable();
    let mut joined: Vec<OsString> = words.next().cloned().into_iter().collect();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == END {
            joined.push(word.clone());
            joined.extend(words.cloned());
            break;
        }
        let Some(name) = text.strip_prefix("--") else {
            joined.push(word.clone());
            let next = commands.last().and_then(|command| command.find_subcommand(&*text));
            commands.extend(next);
            continue;
        };
        let takes_value = known(&commands, name).is_some_and(|known| known.takes_value);
        let value = words.next_if(|next| takes_value && !next.to_string_lossy().starts_with("--"));
        match value {
            Some(value) if value.to_string_lossy().starts_with('-') => {
                joined.push([word.as_os_str(), OsStr::new("="), value].into_iter().collect());
            }
            value => joined.extend([word].into_iter().chain(value).cloned()),
        }
    }
    joined
}

/// A flag of the program's own.
struct Known {
    name: String,
    takes_value: bool,
}

/// The flag of this name, of the innermost command or for all commands.
fn known(commands: &[&Command], name: &str) -> Option<Known> {
    let innermost = commands.last()?;
    let own = innermost.get_arguments();
    let for_all = commands.iter().flat_map(|c| c.get_arguments()).filter(|a| a.is_global_set());
    let mut all = own.chain(for_all);
    let is_it = |arg: &&clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(name) || aliases.contains(&name)
    };
    match all.find(is_it) {
        Some(arg) => {
            let takes_value = arg.get_action().takes_values();
            Some(Known { name: arg.get_id().to_string(), takes_value })
        }
        // clap adds these when it reads.
        None if ["help", "version"].contains(&name) => {
            Some(Known { name: name.into(), takes_value: false })
        }
        None => None,
    }
}

/// Whether strategies may have flags of this command.
fn takes_strategies(commands: &[&Command]) -> bool {
    commands.last().is_some_and(|command| {
        command.get_arguments().any(|arg| arg.get_long() == Some("sampler_option"))
    })
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn program() -> Command {
        let run = |name: &'static str| {
            let value = |name: &'static str| Arg::new(name).long(name).value_name("X");
            let switch = Arg::new("json").long("json").action(clap::ArgAction::SetTrue);
            let flags = ["prompt", PLUGIN_DIR, "sampler_option"].map(value);
            Command::new(name).args(flags).arg(switch)
        };
        let allow = Arg::new(PLUGIN_ALLOW).long(PLUGIN_ALLOW).alias("allow").global(true);
        Command::new("wan")
            .arg(allow)
            .subcommand(run("generate"))
            .subcommand(Command::new("cache").subcommand(run("plan")))
            .subcommand(Command::new("inspect").arg(Arg::new("path")))
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    fn own(line: &[&str]) -> OwnWords {
        OwnWords::of(&words(line), &program())
    }

    #[test]
    fn a_value_that_begins_with_a_dash_is_its_flags() {
        for (line, expected) in [
            (
                &["wan", "generate", "--prompt", "-inf"][..],
                &["wan", "generate", "--prompt=-inf"][..],
            ),
            (
                &["wan", "generate", "--prompt", "a", "-x"],
                &["wan", "generate", "--prompt", "a", "-x"],
            ),
            (&["wan", "cache", "plan", "--allow", "-"], &["wan", "cache", "plan", "--allow=-"]),
            (
                &["wan", "inspect", "--allow", "--", "-x"],
                &["wan", "inspect", "--allow", "--", "-x"],
            ),
        ] {
            assert_eq!(joined(&words(line), &program()), words(expected), "{line:?}");
        }
        // Neither a flag, nor the value of a switch, of what is unknown, or of another command.
        for line in [
            &["wan", "generate", "--prompt", "--json"][..],
            &["wan", "generate", "--json", "-1"],
            &["wan", "generate", "--mine", "-1"],
            &["wan", "inspect", "--prompt", "-1"],
            &["wan", "generate", "--prompt=a", "-1"],
        ] {
            assert_eq!(joined(&words(line), &program()), words(line), "{line:?}");
        }
    }

    #[test]
    fn a_value_is_never_a_flag() {
        for line in [
            &["wan", "generate", "--prompt", "generate", "--plugin_dir", "a"][..],
            &["wan", "generate", "--prompt=--plugin_dir=b", "--plugin_dir=a"],
            &["wan", "generate", "--prompt", "-x", "--plugin_dir", "a", "--", "--plugin_dir=b"],
        ] {
            let own = own(line);
            assert_eq!(own.words, line, "nothing is left out");
            assert_eq!(own.plugin_dirs, [PathBuf::from("a")]);
            assert_eq!(own.commands, ["generate"]);
        }
        // Refused by whoever reads it next: no value follows.
        let own = own(&["wan", "generate", "--prompt", "--plugin_dir=b"]);
        assert_eq!(own.words, ["wan", "generate", "--prompt", "--plugin_dir=b"]);
    }

    #[test]
    fn an_unknown_flag_takes_its_value_with_it() {
        let line = ["wan", "cache", "plan", "--ar_step", "2", "--json", "--bare", "--json"];
        let unknown = own(&line);
        assert_eq!(unknown.words, ["wan", "cache", "plan", "--json", "--json"]);
        assert_eq!(unknown.commands, ["cache", "plan"]);
        let own_flag = own(&["wan", "generate", "--mine", "plugin_dir", "--theirs=3", "x"]);
        assert_eq!(own_flag.words, ["wan", "generate", "x"]);
        assert!(own_flag.plugin_dirs.is_empty());
    }

    #[test]
    fn a_command_without_strategies_keeps_what_it_does_not_know() {
        let line = ["wan", "--plugin_allow", "a", "inspect", "--mine", "x", "--allow", "b"];
        let kept = own(&line);
        assert_eq!(kept.words, line);
        assert_eq!(kept.commands, ["inspect"]);
        assert_eq!(kept.plugin_allow, Some("b".into()), "the last");
    }
}
