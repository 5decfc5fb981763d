//! `wan cache plan`.

use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use wan_host::parts::{CachePlanner, CacheSchedule, EvaluationRecord, Kind, Registry};
use wan_host::{Error, Result, Settings};
use wan_plugin_api::{Choice, OptionKind, OptionSpec};

use crate::args::{flag, json, number_in};
use crate::finish::{bytes, items};
use crate::model;
use crate::request::settle;
use crate::run_flags::with_run_flags;

/// The option that `--target_speedup` looks for a value of.
const THRESHOLD: &str = "threshold";

/// Largest speed-up that can be asked for.
const SPEEDUP_MAX: f64 = 1000.0;

/// Halvings of the threshold's range.
const HALVINGS: usize = 40;

pub(super) fn command(registry: &Registry) -> Command {
    let own: [Arg; 2] = [
        flag(
            "target_speedup",
            "X",
            "Find the smallest threshold that runs the blocks X times less",
        )
        .value_parser(number_in(1.0..=SPEEDUP_MAX))
        .help_heading("Plan"),
        json().help_heading("Plan"),
    ];
    let command = Command::new("plan")
        .about("Say what a cache will reuse, and what it will hold, without running the blocks")
        .after_help(
            "Works for caches that decide by timesteps and weights alone; the run then does just \
             this.\n\nExample:\n  wan cache plan --cache NAME --target_speedup 2",
        )
        .args(own);
    with_run_flags(command, registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let model = model::open(registry, matches, None)?;
    let mut settings = settle(&model, matches)?;
    let planner = CachePlanner::new(&model, &settings)?;
    let schedule = match matches.get_one::<f64>("target_speedup") {
        None => planner.plan(&settings)?,
        Some(target) => {
            let spec = threshold_option(registry, &settings)?;
            let mut plan = |threshold: f64| {
                let mut cache = settings.cache.clone();
                if let Some(cache) = &mut cache {
                    cache.options.insert(THRESHOLD.into(), json!(threshold));
                }
                settings = model.with_cache(&settings, cache.as_ref())?;
                planner.plan(&settings)
            };
            search(&spec, *target, &mut plan)?
        }
    };
    if matches.get_flag("json") {
        say!("{:#}", json!({ "cache": settings.cache, "plan": schedule }));
    } else {
        print(&settings, &schedule);
    }
    Ok(())
}

fn threshold_option(registry: &Registry, settings: &Settings) -> Result<OptionSpec> {
    let Some(cache) = &settings.cache else {
        return Err(Error::invalid("`target_speedup` needs a cache; give `cache` NAME"));
    };
    let chosen = registry.choose(Kind::Cache, &cache.id, &cache.options)?;
    let spec = chosen.strategy.options.iter().find(|option| option.name == THRESHOLD);
    spec.cloned().ok_or_else(|| {
        Error::invalid(format!("{} has no option {THRESHOLD} to find a value of", cache.id))
    })
}

/// The plan of the smallest threshold that reaches `target`, by halving; it is the last one made.
fn search(
    spec: &OptionSpec,
    target: f64,
    at: &mut dyn FnMut(f64) -> Result<CacheSchedule>,
) -> Result<CacheSchedule> {
    let OptionKind::Float { min, max } = spec.kind else {
        return Err(Error::invalid(format!("the option {THRESHOLD} is not a number")));
    };
    let best = at(max)?;
    if best.speed_up < target {
        return Err(Error::invalid(format!(
            "--target_speedup {target}: with these options {:.2} is the most there is; protect \
             fewer evaluations or allow more reuses in a row",
            best.speed_up
        )));
    }
    // Threshold and speed-up rise together but for ties, so halving finds the edge.
    let (mut low, mut high) = (min, max);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if at(middle)?.speed_up >= target {
            high = middle;
        } else {
            low = middle;
        }
    }
    at(high)
}

fn print(settings: &Settings, schedule: &CacheSchedule) {
    let Some(cache) = &settings.cache else { return };
    let options: Vec<String> = cache.options.iter().map(|(n, v)| format!("{n}={v}")).collect();
    say!(
        "{} {}: {} steps, shift {}, sampler {}",
        cache.id,
        options.join(" "),
        settings.sample_steps,
        settings.sample_shift,
        settings.sampler.id
    );
    let records = &schedule.evaluations;
    let branches = EvaluationRecord::branches(records);
    let maps: Vec<String> =
        branches.iter().map(|b| EvaluationRecord::decision_map(records, b)).collect();
    let alike = maps.iter().all(|map| map == &maps[0]);
    let shown = if alike { &branches[..1] } else { &branches[..] };
    say!("{:>5} {:>8}  {:7} {}", "round", "timestep", "", schedule.measures.join("  "));
    for record in records.iter().filter(|r| shown.contains(&&*r.branch)) {
        let numbers: Vec<String> = record.measured.iter().map(|m| format!("{m:.4}")).collect();
        say!(
            "{:>5} {:>8.2}  {:7} {}{}",
            record.round,
            schedule.timesteps[record.round],
            if record.choice == Choice::Compute { "compute" } else { "reuse" },
            numbers.join("  "),
            if alike { "" } else { &record.branch }
        );
    }
    for (branch, map) in branches.iter().zip(&maps) {
        say!("{branch:>7}: {map}");
    }
    let count = schedule.decisions;
    say!(
        "reuses {} of {} evaluations, at most {} in a row: the blocks run {:.2} times less",
        count.reused,
        count.computed + count.reused,
        count.reused_in_a_row,
        schedule.speed_up
    );
    say!(
        "holds {} a branch at most; all branches{}",
        bytes(schedule.bytes_per_branch),
        items(schedule.holdings.iter().map(|h| (h.item, h.bytes, h.place)))
    );
}
