//! Flags that several commands share.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use wan_border::numbers::within;
use wan_host::Metadata;

use crate::progress::ProgressForm;

/// Reads a number that has to be in a range; what is not a number is in none.
pub(super) fn number_in(
    range: RangeInclusive<f64>,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.trim().parse().map_err(|_| "not a number".to_string())?;
        within(number, range.clone()).map_err(|error| error.to_string())
    }
}

pub(super) fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("Output")
}

pub(super) fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON")
}

pub(super) fn plugin_dir() -> Arg {
    flag("plugin_dir", "DIR", "Folder with plugin libraries; may be given more than once")
        .value_parser(value_parser!(PathBuf))
        .action(ArgAction::Append)
        .help_heading("Plugins")
}

/// What [`plugin_timeout`] is where nobody says so.
pub(super) const PLUGIN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn plugin_timeout() -> Arg {
    flag(
        "plugin_timeout",
        "SECONDS",
        "Most seconds that one call of a plugin may spend in its own code; more is taken for an \
         endless loop",
    )
    .default_value(PLUGIN_TIMEOUT.as_secs().to_string())
    .value_parser(seconds)
    .help_heading("Plugins")
}

fn seconds(written: &str) -> Result<Duration, String> {
    let seconds = written.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "expected seconds above 0".into())
}

/// The flags of the innermost command.
pub(super) fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

pub(super) fn model_dir() -> Arg {
    flag(
        "ckpt_dir",
        "DIR",
        "Model folder in diffusers' or Wan's own layout, or ComfyUI's models [default: the demo model]",
    )
    .alias("model_id")
    .value_parser(value_parser!(PathBuf))
}

pub(super) fn save_file() -> Arg {
    flag("save_file", "FILE", "The video to write; its sidecar is FILE with .json")
        .value_parser(value_parser!(PathBuf))
        .help_heading("Output")
}

pub(super) fn vae_tiling() -> Arg {
    switch("vae_tiling", "Decode in blended tiles of 256 pixels: less memory for a large picture")
}

pub(super) fn metadata() -> Arg {
    flag("metadata", "WHAT", "What the video's tags hold of its making: none | standard | full")
        .default_value("standard")
        .hide_possible_values(true)
        .value_parser(["none", "standard", "full"])
        .help_heading("Output")
}

/// What the user wants in the tags.
pub(super) fn chosen_metadata(matches: &ArgMatches) -> Metadata {
    let name = matches.get_one::<String>("metadata");
    name.and_then(|name| Metadata::from_name(name)).unwrap_or_default()
}

pub(super) fn progress() -> Arg {
    flag("progress", "FORM", "How progress is shown: auto | json | quiet")
        .default_value("auto")
        .value_parser(["auto", "json", "quiet"])
        .help_heading("Output")
}

/// Progress in the form that the user asked for.
pub(super) fn progress_form(matches: &ArgMatches) -> ProgressForm {
    let name = matches.get_one::<String>("progress");
    name.and_then(|n| ProgressForm::from_name(n)).unwrap_or(ProgressForm::Auto)
}
