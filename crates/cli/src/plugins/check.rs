//! `wan plugins check LIB`, and `wan plugins answer`, which it starts for each test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use wan_border::numbers::Mebibytes;
use wan_host::parts::{OpenedPlugin, Registry};
use wan_host::{Error, Result};
use wan_plugin_api::options::did_you_mean;
use wan_plugin_check::{Case, CheckOptions, Errand, Report, Status, Test};

use crate::args::{flag, json as json_flag, number_in};

/// Address space of one test, where the user says nothing.
const MEMORY_MIB: &str = "2048";

/// Longest time of one test, in seconds: a day.
const TIMEOUT_MAX: f64 = 86400.0;

fn library() -> Arg {
    Arg::new("library").required(true).value_name("LIB").value_parser(value_parser!(PathBuf))
}

pub(super) fn command() -> Command {
    let names: Vec<&str> = Test::ALL.iter().map(|test| test.name()).collect();
    Command::new("check")
        .about("Hold a library to what the host relies on, each test in a process of its own")
        .after_help(format!("Tests: {}", names.join(", ")))
        .arg(library().help("The library"))
        .args([
            json_flag(),
            flag("only", "TEST", "Run this test alone; may be given more than once")
                .action(ArgAction::Append),
            flag(
                "seed",
                "N",
                "Repeat a check; its last line says its seed [default: another each time]",
            )
            .alias("reproduce")
            .value_parser(value_parser!(u64)),
            flag("timeout", "S", "Longest seconds that one test may work, or wait")
                .default_value("60")
                .value_parser(number_in(0.0..=TIMEOUT_MAX)),
            flag("memory", "MIB", "Most address space of one test")
                .default_value(MEMORY_MIB)
                .value_parser(value_parser!(Mebibytes)),
        ])
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let library = matches.get_one::<PathBuf>("library").cloned().unwrap_or_default();
    let settings = settings(registry, &library, matches)?;
    let report = wan_plugin_check::check(&library, &settings)?;
    if matches.get_flag("json") {
        say!("{:#}", json!(report));
    } else {
        print(&report);
    }
    if report.is_good() {
        return Ok(());
    }
    let (path, summary) = (report.path.display(), report.summary());
    Err(Error::Library(format!("{path} does not pass: {summary}")))
}

fn settings(registry: &Registry, library: &Path, matches: &ArgMatches) -> Result<CheckOptions> {
    let named = matches.get_many::<String>("only").into_iter().flatten();
    let only = named.map(|name| test(name)).collect::<Result<_>>()?;
    let seconds = matches.get_one::<f64>("timeout").copied().unwrap_or_default();
    let timeout = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| Error::invalid(format!("--timeout {seconds}: seconds above 0")))?;
    // Whatever it is, it may not be opened here.
    let (path, hash) = OpenedPlugin::identify(library, registry.allowed())?;
    let mut beside = registry.clone();
    beside.add_own_folder((&path, &hash))?;
    Ok(CheckOptions {
        only,
        seed: matches.get_one("seed").copied().unwrap_or_else(drawn),
        timeout,
        memory_bytes_max: matches.get_one("memory").map_or(0, |mib: &Mebibytes| mib.bytes()),
        beside,
    })
}

fn test(name: &str) -> Result<Test> {
    let known = Test::ALL.iter().map(|test| test.name());
    Test::from_name(name).ok_or_else(|| {
        Error::invalid(format!("there is no test {name}{}", did_you_mean(name, known)))
    })
}

/// A short number, for somebody may have to type it.
fn drawn() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) % 1_000_000)
}

fn print(report: &Report) {
    match &report.description {
        Some(d) => say!("{} {}  {}", d.name, d.version, report.path.display()),
        None => say!("{}", report.path.display()),
    }
    let mut strategy = None;
    for finding in &report.findings {
        let Case { test, strategy: of } = &finding.case;
        if *of != strategy {
            say!("{}", of.as_deref().unwrap_or_default());
            strategy = of.clone();
        }
        let status = finding.outcome.status;
        let word = status.word();
        let word = if status.is_good() { word.to_string() } else { word.to_uppercase() };
        say!("  {word:<8} {:<20} {}", test.name(), finding.outcome.message);
        if matches!(status, Status::Fail | Status::Crash | Status::Timeout) {
            say!("  {:<8} {:<20} {}", "", "", test.description());
        }
    }
    say!("{}", report.summary());
}

pub(super) fn answer_command() -> Command {
    Command::new("answer").hide(true).arg(library()).args([
        flag("test", "TEST", "").required(true),
        flag("strategy", "ID", ""),
        flag("hash", "SHA-256", ""),
        flag("seed", "N", "").required(true).value_parser(value_parser!(u64)),
        flag("memory", "BYTES", "").required(true).value_parser(value_parser!(u64)),
        flag("answer", "FILE", "").required(true).value_parser(value_parser!(PathBuf)),
    ])
}

pub(super) fn answer(matches: &ArgMatches) -> Result<()> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or_default();
    let test = test(matches.get_one::<String>("test").map_or("", String::as_str))?;
    wan_plugin_check::answer(&Errand {
        library: path("library"),
        hash: matches.get_one::<String>("hash").cloned(),
        case: Case { test, strategy: matches.get_one::<String>("strategy").cloned() },
        seed: number("seed"),
        memory_bytes_max: number("memory"),
        answer: path("answer"),
    })
}
