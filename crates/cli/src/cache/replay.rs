//! `wan cache replay`.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use wan_cache_lab::compare::{Candidate, Change};
use wan_cache_lab::recording::{Recording, Replay};
use wan_host::parts::{Kind, Registry};
use wan_host::{Error, Result};
use wan_plugin_api::Choice;

use crate::args::{flag, json, plugin_dir, plugin_timeout};
use crate::finish::bytes;

pub(super) fn command() -> Command {
    Command::new("replay")
        .about("Say what caches would reuse on a recording, and how wrong each reuse would be")
        .after_help(
            "The recorded path is the uncached one: errors are those of single reuses along it, \
             not of the video that a run with the cache would give.\n\n\
             Example:\n  wan cache replay run.safetensors --candidate NAME:threshold=0.1|0.2",
        )
        .args([
            clap::Arg::new("recording")
                .required(true)
                .value_name("RECORDING")
                .value_parser(value_parser!(PathBuf))
                .help("What `wan cache record` wrote"),
            flag("candidate", "CACHE[:OPTION=VALUE,..]", "A cache; may be given more than once")
                .required(true)
                .action(ArgAction::Append),
            json(),
            plugin_dir(),
            plugin_timeout(),
        ])
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("recording").cloned().unwrap_or_default();
    let recording = Recording::open(&path)?;
    let written = matches.get_many::<String>("candidate").into_iter().flatten();
    let candidates = written.map(|c| Candidate::read(registry, c)).collect::<Result<Vec<_>>>()?;
    let mut replays = Vec::new();
    for candidate in candidates.concat() {
        let Change::Cache(choice) = &candidate.change else {
            return Err(Error::invalid("a recording has all its steps; name a cache"));
        };
        let chosen = registry.choose(Kind::Cache, &choice.id, &choice.options)?;
        let replay = Replay::of(&recording, &chosen)?;
        if !matches.get_flag("json") {
            print(&candidate.name, &replay);
        }
        replays.push(json!({ "candidate": candidate, "replay": replay }));
    }
    if matches.get_flag("json") {
        say!("{:#}", json!(replays));
    }
    Ok(())
}

fn print(name: &str, replay: &Replay) {
    say!("{name}");
    let mut branches: Vec<&str> = replay.evaluations.iter().map(|e| e.branch.as_str()).collect();
    branches.sort_unstable();
    branches.dedup();
    for branch in branches {
        let own = replay.evaluations.iter().filter(|e| e.branch == branch);
        let map: String =
            own.map(|e| if e.choice == Choice::Compute { 'C' } else { 's' }).collect();
        say!("{branch:>8}: {map}");
    }
    let percent = |error: Option<f64>| error.map_or("-".into(), |e| format!("{:.2} %", 100.0 * e));
    say!(
        "  {:.2} times fewer evaluations; error of a reuse: mean {}, worst {}; {} held",
        replay.saved,
        percent(replay.mean_error),
        percent(replay.worst_error),
        bytes(replay.memory.held_max)
    );
}
