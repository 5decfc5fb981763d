//! `wan cache calibrate`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use wan_cache_lab::calibration::Calibration;
use wan_cache_lab::recording::Recording;
use wan_host::{Error, Result};

use crate::args::{flag, plugin_dir};
use crate::outputs::{claim, outputs, overwrite};

pub(super) fn command() -> Command {
    Command::new("calibrate")
        .about("Fit to recordings the polynomials and ratios that some caches need of a model")
        .after_help(
            "The file is what `--cache_option calibration=FILE` takes. A fit that does not hold on \
             evaluations it was not made from is left out of it.\n\n\
             Example:\n  wan cache record --prompt \"...\" --out a.safetensors\n  \
             wan cache calibrate a.safetensors b.safetensors --out calibration.json",
        )
        .args([
            Arg::new("recordings")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .value_name("RECORDING")
                .value_parser(value_parser!(PathBuf))
                .help("What `wan cache record` wrote; several prompts make a better fit"),
            flag("out", "FILE", "The calibration (JSON)")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
            overwrite(),
            plugin_dir(),
        ])
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("out").cloned().unwrap_or_default();
    let claim = claim(outputs(matches), &Calibration::wanted(&path))?;
    let paths = matches.get_many::<PathBuf>("recordings").into_iter().flatten();
    let recordings = paths.map(|path| Recording::open(path)).collect::<Result<Vec<_>>>()?;
    let calibration = Calibration::of(&recordings)?;
    for fit in &calibration.fits {
        let explained = fit.r_squared.map_or(String::new(), |r| format!("R² {r:.3}, "));
        say!(
            "{:18} {explained}held out {:.1} %, {} points: {}",
            fit.what,
            100.0 * fit.held_out,
            fit.points,
            if fit.recommended { "in the file" } else { "not good enough, left out" }
        );
    }
    let json = serde_json::to_string_pretty(&calibration);
    let json = json.map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    claim.write(json.as_bytes())?;
    say!("wrote {}", path.display());
    if calibration.fits.iter().all(|fit| !fit.recommended) {
        return Err(Error::invalid(
            "no fit is good enough to be used; record more prompts, or take a cache that needs no \
             calibration",
        ));
    }
    Ok(())
}
