//! `wan plugins new`: a crate that compiles, loads and passes its check as it is.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use wan_host::{Error, Result};
use wan_outputs::write_new_folder;
use wan_plugin_api::c::HEADER;
use wan_plugin_api::manifest::CURRENT_EPOCH;

use crate::args::flag;
use crate::checkout;

const MANIFEST: &str = include_str!("templates/Cargo.toml.in");
const SAMPLER: &str = include_str!("templates/sampler.rs.in");
const CACHE: &str = include_str!("templates/cache.rs.in");
const C_SAMPLER: &str = include_str!("templates/sampler.c.in");
const C_CACHE: &str = include_str!("templates/cache.c.in");

/// Longest name.
const NAME_MAX: usize = 40;

/// What cannot be the name of a crate, or of a type beside those of the interface.
const TAKEN: &str = "
    as async await box break const continue crate dyn else enum extern false fn for gen if impl in
    let loop macro match mod move mut pub ref return self static struct super trait true try type
    union unsafe use where while yield
    alloc build core deps examples incremental proc-macro serde std test wan-cache
    wan-cache-lab wan-cli wan-diffusion-forcing wan-host wan-media wan-model wan-outputs
    wan-plugin-api wan-plugin-check wan-plugin-kit wan-run-store wan-samplers
    action attention cache choice coefficients decision denoise err error evaluation gate message
    none ok option options place plugin protects replaces result round rule sampler schedule signal
    some step strategy string tensor term vec
";

pub(super) fn command() -> Command {
    Command::new("new")
        .about("Write a sampler or a cache that compiles, loads and passes `wan plugins check`")
        .arg(
            Arg::new("kind")
                .required(true)
                .value_parser(["sampler", "cache"])
                .help("What to write"),
        )
        .arg(Arg::new("name").required(true).value_name("NAME").help("Its id, as my-sampler"))
        .arg(
            flag("lang", "LANGUAGE", "What to write it in; c needs a compiler and nothing else")
                .value_parser(["rust", "c"])
                .default_value("rust"),
        )
        .arg(
            flag("path", "DIR", "Folder to write [default: NAME]")
                .value_parser(value_parser!(PathBuf)),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let word = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (kind, name) = (word("kind"), word("name"));
    check_name(name)?;
    let folder = matches.get_one("path").cloned().unwrap_or_else(|| PathBuf::from(name));
    if word("lang") == "c" {
        return in_c(kind, name, &folder);
    }
    let interface = Interface::find();
    let fill = |template: &str| {
        template
            .replace("{{name}}", name)
            .replace("{{Type}}", &type_name(name))
            .replace("{{interface}}", &interface.dependency)
    };
    let source = if kind == "sampler" { SAMPLER } else { CACHE };
    let files = [("Cargo.toml", fill(MANIFEST)), ("src/lib.rs", fill(source))];
    write_new_folder("path", &folder, &files)?;
    say!("wrote {}: a {kind} on {}", folder.display(), interface.description);
    say!("  cd {} && cargo build", folder.display());
    let library = library_name(name);
    say!("  wan plugins check target/debug/{library}");
    say!("  wan generate --plugin-dir target/debug --{kind} {name}");
    Ok(())
}

/// Writes a source in C and the header beside it.
fn in_c(kind: &str, name: &str, folder: &Path) -> Result<()> {
    let source = if kind == "sampler" { C_SAMPLER } else { C_CACHE }.replace("{{name}}", name);
    let (file, library) = (format!("{name}.c"), library_name(name));
    let files = [(file.as_str(), source), ("wan_plugin.h", HEADER.to_string())];
    write_new_folder("path", folder, &files)?;
    say!("wrote {}: a {kind} on wan_plugin.h, epoch {CURRENT_EPOCH}", folder.display());
    say!("  cd {} && cc -shared -fPIC -O2 -o {library} {file} -lm", folder.display());
    say!("  wan plugins check {library}");
    say!("  wan generate --plugin-dir . --{kind} {name}");
    Ok(())
}

/// The interface that the new crate is built on.
struct Interface {
    dependency: String,
    description: String,
}

impl Interface {
    /// By path where this program belongs to a checkout, else by version.
    fn find() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        match checkout::find().map(|checkout| checkout.join("crates/plugin-api")) {
            Some(path) => Self {
                dependency: format!("{{ path = {:?} }}", path.display().to_string()),
                description: format!("wan-plugin-api {version} of the checkout {}", path.display()),
            },
            None => Self {
                dependency: format!("{version:?}"),
                description: format!("wan-plugin-api {version} of the registry"),
            },
        }
    }
}

/// An id, a crate and a file are named so: lower-case words joined by hyphens.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fits)
        && !name.ends_with('-')
        && !name.contains("--");
    let refuse =
        |why: &str| Err(Error::invalid(format!("{name:?} is no name for a plugin: {why}")));
    if !is_good {
        let suggestion = suggestion(name);
        return refuse(&format!(
            "lower-case letters, digits and single hyphens, a letter first{suggestion}"
        ));
    }
    if name.len() > NAME_MAX {
        return refuse(&format!("it is longer than {NAME_MAX} characters"));
    }
    if TAKEN.split_whitespace().any(|taken| taken == name) {
        return refuse(&format!("it is taken; did you mean my-{name}?"));
    }
    Ok(())
}

/// `; did you mean my-sampler?` for `My_Sampler`.
fn suggestion(name: &str) -> String {
    let mut words = String::new();
    let mut after_small = false;
    for c in name.chars() {
        // `MySampler` is two words.
        if c.is_ascii_uppercase() && after_small {
            words.push(' ');
        }
        after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        words.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' });
    }
    let text = words.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", words.join("-"))
}

/// `my-sampler` gives `MySampler`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capital).collect()
}

fn library_name(name: &str) -> String {
    let [prefix, suffix] = [std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX];
    format!("{prefix}{}{suffix}", name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_refused_with_a_good_one() {
        for (bad, good) in [
            ("My_Sampler", "my-sampler"),
            ("MySampler", "my-sampler"),
            ("2fast", "fast"),
            ("a--b", "a-b"),
            ("std", "my-std"),
            ("sampler", "my-sampler"),
        ] {
            let text = check_name(bad).unwrap_err().to_string();
            assert!(text.ends_with(&format!("did you mean {good}?")), "{text}");
        }
        assert!(check_name("").is_err() && check_name("ü").is_err());
        assert!(check_name(&"a".repeat(41)).is_err());
        check_name("euler-2").unwrap();
    }

    #[test]
    fn a_template_is_short() {
        for source in [SAMPLER, CACHE] {
            assert!(MANIFEST.lines().count() + source.lines().count() <= 75);
        }
    }

    #[test]
    fn words_become_a_type() {
        assert_eq!(type_name("my-sampler-2"), "MySampler2");
    }
}
