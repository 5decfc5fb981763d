//! `wan runs`: unfinished runs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use wan_host::{KeptRun, Recipe, Result, UnfinishedRun, unfinished_runs};

use super::args::{flag, json as json_flag};
use super::finish::bytes;

pub(super) fn command() -> Command {
    Command::new("runs")
        .about("List unfinished runs, or give one up")
        .arg(
            Arg::new("folder")
                .value_name("DIR")
                .default_value(".")
                .value_parser(value_parser!(PathBuf))
                .help("Where they lie"),
        )
        .arg(
            flag("remove", "NAME.run", "Give up this run: remove its folder")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(json_flag())
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    if let Some(path) = matches.get_one::<PathBuf>("remove") {
        let path: PathBuf = path.components().collect();
        return remove(&path);
    }
    let folder = matches.get_one::<PathBuf>("folder").expect("it has a default");
    let runs = unfinished_runs(folder)?;
    if matches.get_flag("json") {
        let all: Vec<Value> = runs.iter().map(as_json).collect();
        say!("{:#}", Value::from(all));
        return Ok(());
    }
    if runs.is_empty() {
        say!("no unfinished run in {}", folder.display());
    }
    runs.iter().for_each(|run| say!("{}", as_text(run)));
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let left = KeptRun::discard(path)?;
    match left.first() {
        None => say!("removed {}", path.display()),
        Some(first) => say!(
            "removed the run; {} stays: {} is not of this program",
            path.display(),
            first.display()
        ),
    }
    Ok(())
}

fn age(run: &UnfinishedRun) -> Option<u64> {
    let since = SystemTime::now().duration_since(run.modified?).ok()?;
    Some(since.as_secs())
}

fn as_json(run: &UnfinishedRun) -> Value {
    let recipe = run.recipe.as_ref();
    json!({
        "path": run.path,
        "prompt": recipe.map(|recipe: &Recipe| recipe.sidecar.settings.prompt.clone()),
        "done": run.reached.map(|reached| reached.done),
        "rounds": run.reached.map(|reached| reached.rounds),
        "evaluations": run.reached.map(|reached| reached.evaluations),
        "age_seconds": age(run),
        "bytes": run.bytes,
        "worked_on": run.is_worked_on,
        "process": run.process,
        "damage": run.damage,
    })
}

fn as_text(run: &UnfinishedRun) -> String {
    let done = match run.reached {
        Some(reached) => format!("{} of {} rounds", reached.done, reached.rounds),
        None => "no round".into(),
    };
    let mut text = format!("{}: {done} done, {}", run.path.display(), bytes(run.bytes));
    if let Some(age) = age(run) {
        text += &format!(", {} ago", duration(age));
    }
    if run.is_worked_on {
        let by = run.process.map_or("another process".into(), |id| format!("process {id}"));
        text += &format!("; {by} works on it");
    }
    if let Some(recipe) = &run.recipe {
        text += &format!("\n  {}", recipe.sidecar.settings.prompt.replace('\n', " "));
    }
    run.damage.iter().for_each(|damage| text += &format!("\n  {damage}"));
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
