//! `wan plan`: what a run will take, before anything is loaded.

use clap::{ArgMatches, Command};
use serde_json::json;
use wan_host::parts::Registry;
use wan_host::{Bytes, DecodingTime, MeasuredSpeed, Model, Plan, PlannedPhase, Result, Settings};
use wan_plugin_api::Place;

use super::args::{json, vae_tiling};
use super::request::settle;
use super::run_flags::with_run_flags;
use super::{bench, device, kernels, model};

/// Columns of the longest bar.
const BAR: usize = 40;

pub(super) fn command(registry: &Registry) -> Command {
    let command = Command::new("plan")
        .about("Say what a run will take of memory and work, before anything is loaded")
        .after_help(
            "Takes the flags of `wan generate`. Where the run does not fit --max_memory, or what is \
             free, the mildest means that make it fit are chosen and named; --fit never refuses it.\n\nExample:\n  wan plan --ckpt_dir DIR --size 832*480 --frame_num 81 \
             --max_memory 12GiB",
        )
        .args([device::arg(), kernels::arg(), vae_tiling(), json().help_heading("Output")]);
    with_run_flags(command, registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let model = model::open(registry, matches, None)?;
    let (settings, plan) = model.fit(settle(&model, matches)?)?;
    // A GPU's speed is not measured.
    let is_cpu = model.device().is_cpu();
    let speed = match is_cpu {
        true => MeasuredSpeed::of_user(model.engine().kernels())?,
        false => None,
    };
    let (both, speed) = ((&settings, &plan), speed.as_ref());
    if matches.get_flag("json") {
        let time = bench::estimate(both, speed);
        let peaks = peaks(&plan);
        say!("{:#}", json!({ "settings": &*settings, "plan": plan, "peaks": peaks, "time": time }));
        return Ok(());
    }
    plan.phases.iter().for_each(|phase| print(phase, &plan));
    say!("{}", of_files(&plan));
    say!("work: {} rounds, {} evaluations of a transformer", plan.rounds, plan.evaluations);
    if is_cpu {
        say!("{}", bench::estimate_line(both, speed));
    }
    let is_between = plan.phases.iter().any(|phase| phase.name == "decode between windows");
    if is_between || plan.residency.decoding == DecodingTime::AtEnd {
        say!("{}", plan.residency.decoding.words());
    }
    plan.choices.iter().for_each(|choice| say!("to fit: {choice}"));
    say!("{}", peak_line(&model, &plan));
    Ok(())
}

/// The peak of each place.
pub(super) fn peaks(plan: &Plan) -> serde_json::Value {
    let peak = |place| {
        let peak = plan.peak(place);
        peak.map(|(phase, bytes)| json!({ "at": phase.name, "bytes": bytes }))
    };
    json!({ "device": peak(Place::Device), "host": peak(Place::Host) })
}

/// Makes a run of these settings fit; says what was done for it.
///
/// # Errors
/// As [`Model::fit`].
pub(super) fn fit(model: &Model, settings: Settings) -> Result<(Settings, Plan)> {
    let (settings, plan) = model.fit(settings)?;
    plan.choices.iter().for_each(|choice| note!("to fit the memory: {choice}"));
    Ok((settings, plan))
}

/// The most that a run holds, in one line.
pub(super) fn peak_line(model: &Model, plan: &Plan) -> String {
    let said = |place| {
        let (phase, bytes) = plan.peak(place)?;
        let of = match place {
            Place::Device if !model.device().is_cpu() => " of the device's memory",
            _ => " of main memory",
        };
        Some(format!("{}{of} ({})", Bytes(bytes), phase.name))
    };
    let peaks: Vec<String> = [Place::Device, Place::Host].into_iter().filter_map(said).collect();
    format!("plan: at most {}", peaks.join(" and "))
}

/// A phase, its lines, and a bar for each as long as its share of the largest phase.
fn print(phase: &PlannedPhase, plan: &Plan) {
    let all =
        |phase: &PlannedPhase| phase.bytes(Place::Device).saturating_add(phase.bytes(Place::Host));
    let most = plan.phases.iter().map(all).max().unwrap_or(1).max(1);
    let own = all(phase);
    say!("{:<48} {:>12} |{}", phase.name, Bytes(own).to_string(), bar('=', own, most));
    for line in &phase.lines {
        let what = match line.place {
            Place::Host => format!("{}, in main memory", line.what),
            Place::Device => line.what.clone(),
        };
        say!("  {what:<46} {:>12} |{}", Bytes(line.bytes).to_string(), bar('-', line.bytes, most));
    }
}

fn bar(with: char, bytes: u64, most: u64) -> String {
    let columns = (bytes as f64 / most as f64 * BAR as f64).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 40")]
    with.to_string().repeat(columns as usize)
}

fn of_files(plan: &Plan) -> String {
    let files = plan.file_bytes.iter().map(|(part, bytes)| format!("{part} {}", Bytes(*bytes)));
    format!("files: {}", files.collect::<Vec<_>>().join(", "))
}
