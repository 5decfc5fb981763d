//! The config of a network whose weights a command line names.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use wan_host::{Error, Result};
use wan_model::inspect::Network;

use crate::args::flag;

/// Name of the config in diffusers' folders.
pub(super) const CONFIG: &str = "config.json";

pub(super) fn part() -> Arg {
    flag("part", "PART", "What it is: transformer | text_encoder | vae | image_encoder")
        .hide_possible_values(true)
        .value_parser(["transformer", "transformer_2", "text_encoder", "vae", "image_encoder"])
}

pub(super) fn config() -> Arg {
    flag("config", "FILE", "diffusers' config.json of the network; without it sizes tell")
        .value_parser(value_parser!(PathBuf))
}

/// The part that the command line says.
pub(super) fn given_part(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("part").map(String::as_str)
}

/// The network of the config that the command line names, else of the one beside the weights, of
/// which `first` is the first file. None where neither says it.
///
/// # Errors
/// If a config that is named is not there, or is of no known part; if one cannot be read, or is
/// malformed.
pub(super) fn configured_network(
    matches: &ArgMatches,
    first: Option<&Path>,
) -> Result<Option<Network>> {
    let part = given_part(matches);
    let Some(path) = matches.get_one::<PathBuf>("config") else {
        let beside = first.map(|path| path.with_file_name(CONFIG));
        return Ok(beside.map_or(Ok(None), |path| Network::read_config(&path, part))?);
    };
    let network = Network::read_config(path, part)?;
    network.map(Some).ok_or_else(|| {
        let said = format!("{}: not there, or not of a known part", path.display());
        Error::field("config", format!("{said}; say which with `part`"))
    })
}
