//! `--device`.

use candle_core::Device;
use clap::{Arg, ArgMatches, value_parser};
use wan_host::Result;
use wan_host::device::DeviceChoice;

use super::args::flag;

pub(super) fn arg() -> Arg {
    flag("device", "DEVICE", "Where to compute: auto (a GPU, else the CPU) | cpu | cuda | cuda:N")
        .value_parser(value_parser!(DeviceChoice))
}

/// The device that the user asked for.
pub(super) fn chosen(matches: &ArgMatches) -> Result<Device> {
    matches.get_one::<DeviceChoice>("device").copied().unwrap_or_default().open()
}
