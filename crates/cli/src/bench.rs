//! `wan bench --quick`: how fast this machine computes, for the times that `wan plan` estimates.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use wan_host::{MeasuredSpeed, Plan, Result, Settings};

use super::args::{flag, json, number_in};
use super::kernels;

/// Seconds that a measurement takes where nobody says so.
const SECONDS: &str = "10";

pub(super) fn command() -> Command {
    let quick = Arg::new("quick").long("quick").action(ArgAction::SetTrue).required(true);
    Command::new("bench")
        .about("Measure how fast this machine computes, for the times that `wan plan` estimates")
        .after_help(
            "Computes small products, attention and convolutions in f32 and bf16 on all threads, and \
             keeps the speeds in wan/speed.json of the user's folder of caches. In a checkout, \
             `cargo xtask bench` measures whole networks.",
        )
        .args([
            quick.help("A few seconds, the kernels alone"),
            flag("seconds", "SECONDS", "About how long it measures")
                .value_parser(number_in(0.0..=600.0))
                .default_value(SECONDS),
            kernels::arg(),
            json(),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let seconds = matches.get_one::<f64>("seconds").copied().unwrap_or_default();
    let kernels = kernels::chosen(matches, None)?;
    let speed = MeasuredSpeed::measure(kernels, Duration::from_secs_f64(seconds));
    let path = speed.keep()?;
    if matches.get_flag("json") {
        say!("{:#}", json!({ "file": path, "speed": speed }));
        return Ok(());
    }
    let gflops = &speed.gflops;
    say!("kernels {}, {} threads, GFLOP/s:", speed.kernels, speed.threads);
    let kinds = [
        ("products", gflops.products),
        ("attention", gflops.attention),
        ("convolutions", gflops.convolutions),
    ];
    for (kind, speed) in kinds {
        say!("  {kind:<14} f32 {:>6.0}   bf16 {:>6.0}", speed.f32, speed.bf16);
    }
    say!("kept in {}", path.display());
    Ok(())
}

/// What is known of a run's time, as `wan plan --json` has it; null where the machine was not measured.
pub(super) fn estimate(
    (settings, plan): (&Settings, &Plan),
    speed: Option<&MeasuredSpeed>,
) -> serde_json::Value {
    let estimate = |speed: &MeasuredSpeed| {
        let time = plan.time(settings, speed);
        json!({ "at_least": time, "measured": speed.date, "kernels": speed.kernels, "threads": speed.threads })
    };
    speed.map_or(serde_json::Value::Null, estimate)
}

/// The same in one line.
pub(super) fn estimate_line(
    (settings, plan): (&Settings, &Plan),
    speed: Option<&MeasuredSpeed>,
) -> String {
    let Some(speed) = speed else {
        return "time: `wan bench --quick` measures this machine; then it is estimated here".into();
    };
    let time = plan.time(settings, speed);
    let decoding = match settings.latents_only {
        true => String::new(),
        false => format!(", decode {}", duration(time.decoding_seconds)),
    };
    format!(
        "time, estimated: denoise {}{decoding}, by the speed measured on {}, before what a cache saves",
        duration(time.denoising_seconds),
        speed.date
    )
}

/// A time as people say it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_time_is_said_in_the_unit_that_people_use() {
        let said = [0.24, 42.4, 130.0, 9000.0].map(duration);
        assert_eq!(said, ["0.2 s", "42 s", "2 min", "2.5 h"]);
    }
}
