//! `wan cache`: what a cache will do, did, and costs.

mod calibrate;
mod compare;
mod plan;
mod record;
mod replay;

use clap::{ArgMatches, Command};
use wan_host::parts::Registry;
use wan_host::{Error, Result};

pub(super) fn command(registry: &Registry) -> Command {
    Command::new("cache")
        .about("Plan, compare, record and calibrate step caches")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(plan::command(registry))
        .subcommand(compare::command(registry))
        .subcommand(record::command(registry))
        .subcommand(replay::command())
        .subcommand(calibrate::command())
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("plan", matches)) => plan::run(registry, matches),
        Some(("replay", matches)) => replay::run(registry, matches),
        Some(("calibrate", matches)) => calibrate::run(matches),
        Some(("record", matches)) => record::run(registry, matches),
        Some(("compare", matches)) => compare::run(registry, matches),
        _ => Err(Error::invalid("wan cache plan | compare | record | replay | calibrate")),
    }
}
