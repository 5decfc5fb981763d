//! `--device`.

use clap::{Arg, ArgMatches, value_parser};
use wan_host::DeviceChoice;

use super::args::flag;

pub(super) fn arg() -> Arg {
    flag("device", "DEVICE", "Where to compute: auto (a GPU, else the CPU) | cpu | cuda | cuda:N")
        .value_parser(value_parser!(DeviceChoice))
}

/// The device that the user asked for.
pub(super) fn chosen(matches: &ArgMatches) -> DeviceChoice {
    // A command without the flag runs no block.
    let given = matches.try_get_one::<DeviceChoice>("device");
    given.map_or(DeviceChoice::Cpu, |device| device.copied().unwrap_or_default())
}
