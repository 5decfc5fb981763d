//! `--kernels`.

use clap::{Arg, ArgMatches};
use wan_host::{Error, KernelPath, KernelReport, Kernels, Result, Sidecar};

use crate::args::flag;

const AUTO: &str = "auto";

/// The flag.
pub(super) fn arg() -> Arg {
    let paths = KernelPath::ALL.iter().rev().map(|path| path.name());
    flag("kernels", "KERNELS", "Instructions that compute on the CPU [default: the fastest it has]")
        .value_parser([AUTO].into_iter().chain(paths).collect::<Vec<_>>())
}

/// The kernels that the user asked for, else those that computed what is recorded, else the fastest of
/// the processor.
///
/// # Errors
/// If the processor has not these instructions; of recorded ones, unless changes are allowed.
pub(super) fn chosen(matches: &ArgMatches, recorded: Option<&Sidecar>) -> Result<Kernels> {
    let asked = matches.try_get_one::<String>("kernels").ok().flatten();
    if let Some(asked) = asked {
        let path = KernelPath::ALL.into_iter().find(|path| path.name() == asked);
        let kernels = path.map_or(Ok(Kernels::detect()), Kernels::of);
        return kernels.map_err(|lacking| Error::invalid(format!("`kernels`: {lacking}")));
    }
    let Some(KernelReport { name, .. }) = recorded.map(|recorded| &recorded.kernels) else {
        return Ok(Kernels::detect());
    };
    let allows = matches.try_get_one::<bool>("allow_changes").ok().flatten();
    match name.parse() {
        Ok(kernels) => Ok(kernels),
        // Another generation's names say nothing; that it is another is a change of its own.
        Err(_) if name.is_empty() || allows == Some(&true) => Ok(Kernels::detect()),
        Err(error) => Err(Error::invalid(format!(
            "it was computed with {name} kernels: {error}; --allow_changes takes others"
        ))),
    }
}
