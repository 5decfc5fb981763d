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
mod cache;
mod checkout;
mod decode;
mod device;
mod effects;
mod finish;
mod generate;
mod inspect;
mod model;
mod named_by;
mod outputs;
mod panic_hook;
mod plugins;
mod progress;
mod reproduce;
mod request;
mod run_flags;
mod spelling;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap::error::ErrorKind;
use wan_host::parts::Registry;
use wan_host::{AllowList, Error, Result, Turn};

const MISSING: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()))
}

/// Runs the program; gives its exit code.
///
/// 0: done, and the file it was asked for exists. 2: the user can mend what went wrong; one line
/// says how. 130: stopped. 1: anything else.
fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    panic_hook::install();
    start_log();
    let arguments: Vec<OsString> = arguments.map(spelling::with_underscores).collect();
    match try_run(&arguments) {
        Ok(()) => 0,
        // A command without its subcommand: what there is.
        Err(Failure::Usage(help)) if help.kind() == MISSING => {
            help.render().to_string().trim_end().lines().for_each(terminal::aside);
            2
        }
        Err(Failure::Usage(error)) if error.use_stderr() => {
            note!("{}", spelling::one_line(&error));
            2
        }
        Err(Failure::Usage(help)) => {
            terminal::result(help.render().to_string().trim_end());
            0
        }
        Err(Failure::Run { error, flag }) => {
            let known = Registry::built_in().unwrap_or_default();
            let flag = flag.map_or(String::new(), |flag| format!("--{flag} "));
            note!("{flag}{}", spelling::with_dashes(&error.to_string(), command(&known)));
            exit_code(&error)
        }
    }
}

/// 2: the user can mend it; 130: stopped; 1: the work failed.
fn exit_code(error: &Error) -> u8 {
    match error.turn() {
        Turn::Caller | Turn::ModelFiles | Turn::Disk | Turn::Later => 2,
        Turn::Strategy | Turn::DeviceMemory | Turn::Bug => 1,
        Turn::Nobody => 130,
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

fn try_run(arguments: &[OsString]) -> std::result::Result<(), Failure> {
    // Strategies bring flags of their own, so plugins are loaded before flags are read.
    let registry = registry(arguments)?;
    let matches = command(&registry).try_get_matches_from(arguments).map_err(Failure::Usage)?;
    let done = match matches.subcommand() {
        Some(("generate", matches)) => generate::run(&registry, matches),
        Some(("decode", matches)) => decode::run(matches),
        Some(("inspect", matches)) => inspect::run(matches),
        Some(("cache", matches)) => cache::run(&registry, matches),
        Some(("plugins", matches)) => plugins::run(&registry, matches),
        _ => unreachable!("clap requires a subcommand"),
    };
    done.map_err(|error| {
        let flag = named_by::flag(&error.to_string(), &command(&registry), &matches);
        Failure::Run { error: Box::new(error), flag }
    })
}

/// The whole command line, strategy flags included.
fn command(registry: &Registry) -> Command {
    let program = Command::new("wan")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Generate video with Wan and SkyReels-V2 models, through sampler and cache plugins")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(generate::command(registry))
        .subcommand(decode::command())
        .subcommand(inspect::command())
        .subcommand(cache::command(registry))
        .subcommand(plugins::command())
        .arg(plugins::plugin_allow());
    args::with_negative_values(program)
}

fn registry(arguments: &[OsString]) -> Result<Registry> {
    let mut registry = Registry::built_in()?;
    let list = spelling::early(arguments, "plugin_allow").last();
    if let Some(list) = AllowList::find(list.as_deref())? {
        registry.allow_only(list);
    }
    if !plugins::needs_none(arguments) {
        let folders: Vec<PathBuf> = spelling::early(arguments, "plugin_dir").collect();
        registry.add_folders(&folders)?;
    }
    Ok(registry)
}

/// `WAN_LOG=debug` shows what the libraries log.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second start (in tests) keeps the first.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let _ = log.with_writer(|| terminal::Log).try_init();
}
