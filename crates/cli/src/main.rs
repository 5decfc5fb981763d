//! The program `wan`: the command line, and what it says on the terminal.
//!
//! It knows every crate below it: it reads flags, calls the library, shows progress, prints results
//! and gives exit codes. What belongs to the process alone is done here: the log, Ctrl-C, standard
//! output.
//!
//! It never touches a tensor, and decides nothing that a library's user could not decide as well.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]
// There is one writer to the terminal.
#![deny(clippy::print_stderr, clippy::print_stdout)]

#[macro_use]
mod terminal;

mod args;
mod bench;
mod cache;
mod checkout;
mod convert;
mod decode;
mod device;
mod effects;
mod finish;
mod generate;
mod inspect;
mod keeping;
mod kernels;
mod making;
mod model;
mod named_by;
mod network_config;
mod outputs;
mod own_words;
mod panic_hook;
mod plan;
mod plugins;
mod progress;
mod prompt_cache;
mod reproduce;
mod request;
mod resume;
mod run_flags;
mod runs;
mod spelling;
mod stop;
mod wall;
mod wanted;
mod weight_paths;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use wan_host::parts::Registry;
use wan_host::{AllowList, Error, Turn};

use own_words::OwnWords;
use wall::Inside;

const MISSING: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

fn main() -> ExitCode {
    panic_hook::install();
    start_log();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let code = if wall::is_child(&arguments) {
        wall::serve(|arguments, inside| run(&arguments, Some(inside)))
    } else {
        stop::listen();
        run(&spelling::with_underscores(arguments.into_iter()), None)
    };
    ExitCode::from(code)
}

/// Runs the program, in a child of it where foreign libraries are opened; gives its exit code.
fn run(arguments: &[OsString], inside: Option<&Inside>) -> u8 {
    // What panicked has said so.
    let ended = catch_unwind(AssertUnwindSafe(|| try_run(arguments, inside)));
    match ended.unwrap_or(Ok(BUG)) {
        Ok(code) => code,
        // A command without its subcommand: what there is.
        Err(Failure::Usage(help)) if help.kind() == MISSING => {
            help.render().to_string().trim_end().lines().for_each(terminal::aside);
            REQUEST
        }
        Err(Failure::Usage(error)) if error.use_stderr() => {
            note!("{}", spelling::one_line(&error));
            REQUEST
        }
        Err(Failure::Usage(help)) => {
            terminal::result(help.render().to_string().trim_end());
            DONE
        }
        Err(Failure::Run { error, flag }) => {
            let flag = flag.map_or(String::new(), |flag| format!("--{flag} "));
            note!("{flag}{}", spelled(&error));
            exit_code(&error)
        }
    }
}

/// What an error says, with flags where it names fields of a request.
fn spelled(error: &Error) -> String {
    let known = Registry::built_in().unwrap_or_default();
    spelling::with_dashes(&error.to_string(), command(&known))
}

// Exit codes; `docs/exit-codes.md` has what belongs to each.
const DONE: u8 = 0;
const BUG: u8 = 1;
const REQUEST: u8 = 2;
const MODEL_FILES: u8 = 3;
const RESOURCES: u8 = 4;
const PLUGIN: u8 = 5;

fn exit_code(error: &Error) -> u8 {
    match error.turn() {
        Turn::Caller => REQUEST,
        Turn::ModelFiles => MODEL_FILES,
        Turn::DeviceMemory | Turn::Disk | Turn::Later => RESOURCES,
        Turn::Strategy => PLUGIN,
        Turn::Bug => BUG,
        Turn::Nobody => stop::code(),
    }
}

enum Failure {
    /// Help, version, or flags that make no sense.
    Usage(clap::Error),
    /// An error, and the flag of the file that it is about where it does not say so.
    Run { error: Box<Error>, flag: Option<String> },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run { error: Box::new(error), flag: None }
    }
}

fn try_run(arguments: &[OsString], inside: Option<&Inside>) -> std::result::Result<u8, Failure> {
    let mut registry = Registry::built_in()?;
    let program = command(&registry);
    let own = OwnWords::of(&own_words::joined(arguments, &program), &program);
    let uses_strategies = plugins::are_used(&own.commands);
    let mut matches = match program.try_get_matches_from(&own.words) {
        // Help is complete once the flags of all strategies are known.
        Err(help) if uses_strategies && help.kind() == ErrorKind::DisplayHelp => None,
        matches => Some(matches.map_err(Failure::Usage)?),
    };
    let list = AllowList::find(own.plugin_allow.as_deref());
    if let Some(list) = list.map_err(|error| about_list(error, own.plugin_allow.is_some()))? {
        registry.allow_only(list);
    }
    registry.reserve_flags(spelling::flags(command(&Registry::default())));
    if uses_strategies {
        let found = plugins::Found::look(&own.plugin_dirs, matches.as_ref())?;
        match (found.foreign(), inside) {
            (Some(foreign), None) if wall::IS_HERE => {
                let reads_input = matches.as_ref().is_some_and(request::reads_input);
                return Ok(wall::run(arguments, reads_input, (&found, foreign))?);
            }
            (_, Some(inside)) => {
                registry.watch(inside.border(timeout(matches.as_ref())));
                inside.open(&found, &mut registry)?;
            }
            (_, None) => {
                let leave_out = |_: &Path, error: &Error| note!("left out: {}", spelled(error));
                found.open(&mut registry, &[], leave_out)?;
            }
        }
        matches = None;
    }
    let again = || {
        let program = command(&registry);
        let words = own_words::joined(arguments, &program);
        program.try_get_matches_from(words)
    };
    let matches = matches.map_or_else(again, Ok).map_err(Failure::Usage)?;
    let done = match matches.subcommand() {
        Some(("generate", matches)) => generate::run(&registry, matches),
        Some(("plan", matches)) => plan::run(&registry, matches),
        Some(("bench", matches)) => bench::run(matches),
        Some(("resume", matches)) => resume::run(&registry, matches),
        Some(("runs", matches)) => runs::run(matches),
        Some(("decode", matches)) => decode::run(matches),
        Some(("inspect", matches)) => inspect::run(matches),
        Some(("convert", matches)) => convert::run(matches),
        Some(("cache", matches)) => cache::run(&registry, matches),
        Some(("plugins", matches)) => plugins::run(&registry, matches),
        _ => unreachable!("clap requires a subcommand"),
    };
    done.map(|()| DONE).map_err(|error| {
        let flag = named_by::flag(&error.to_string(), &command(&registry), &matches);
        Failure::Run { error: Box::new(error), flag }
    })
}

/// An error about the list of libraries that may be loaded; by its flag, where that was given.
fn about_list(error: Error, is_named: bool) -> Failure {
    let flag = is_named.then(|| own_words::PLUGIN_ALLOW.into());
    Failure::Run { error: Box::new(error), flag }
}

/// How long a call of a plugin may take; its help may be asked for without any.
fn timeout(matches: Option<&ArgMatches>) -> Duration {
    let given = matches.and_then(|m| args::innermost(m).try_get_one("plugin_timeout").ok()?);
    given.copied().unwrap_or(args::PLUGIN_TIMEOUT)
}

/// The whole command line, strategy flags included.
fn command(registry: &Registry) -> Command {
    Command::new("wan")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Generate video with Wan and SkyReels-V2 models, through sampler and cache plugins")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(generate::command(registry))
        .subcommand(plan::command(registry))
        .subcommand(bench::command())
        .subcommand(resume::command())
        .subcommand(runs::command())
        .subcommand(decode::command())
        .subcommand(inspect::command())
        .subcommand(convert::command())
        .subcommand(cache::command(registry))
        .subcommand(plugins::command())
        .arg(plugins::plugin_allow())
}

/// `WAN_LOG=debug` shows what the libraries log.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let _ = log.with_writer(|| terminal::Log).try_init();
}
