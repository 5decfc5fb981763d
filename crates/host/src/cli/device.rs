//! `--device`.

use candle_core::Device;
use clap::{Arg, ArgMatches, value_parser};

use super::args::flag;
use crate::device::DeviceChoice;
use crate::error::Result;

pub(super) fn arg() -> Arg {
    flag("device", "DEVICE", "Where to compute: auto (a GPU, else the CPU) | cpu | cuda | cuda:N")
        .value_parser(value_parser!(DeviceChoice))
}

/// The device that the user asked for.
pub(super) fn chosen(matches: &ArgMatches) -> Result<Device> {
    matches.get_one::<DeviceChoice>("device").copied().unwrap_or_default().open()
}
