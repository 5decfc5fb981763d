//! `cargo xtask`: builds, runs and checks the project. Needs cargo and a C++ compiler, no more.
#![allow(clippy::disallowed_methods, reason = "starting programs is what xtask is for")]

mod bench;
mod build;
mod check;
mod cuda;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  run [-- ARGS]      build all, then `wan generate ARGS`: a video of the demo model
  wan ARGS           build all, then any command of the CLI, as `wan plugins list`
  test               everything that CI checks
  golden [DIR]       golden cases of DIR (default: those that the project carries)
  weights [DIR]      weight files of DIR in all formats (default: those that the project carries)
  mutants            both of these
  mutants caches [ARGS]  caches with planted defects: each must be caught by a property
  mutants engine [ARGS]  mistakes in the engine: each must be noticed by a test
  fuzz [ARGS]        damaged files for every reader, as --inputs 1000000 --only mp4
  torture [ARGS]     runs that are killed and go on, as --kills 200 --seed 1 or --interrupts 40
  full-size DIR      one evaluation of the 14B from files of full size under limits: an hour, 55 GB
  bench [ARGS]       how long the networks take, row by row, as --compare-torch or --only forward;
                     `bench --help` lists the rows
  lengths            memory of runs of 33 to 2049 frames, plotted into docs/memory-of-length.svg
  bad-plugins        libraries with planted defects: each must be caught by `wan plugins check`
  new-plugin ARGS    build all, then `wan plugins new ARGS`, as `sampler my-sampler`
  plugins            build the plugins into the folder where `wan` finds them
  cuda [--compute-cap N]   the program for NVIDIA GPUs, in target/cuda (N: 90 for H100 and H200)
";

/// `Err` holds an exit code: what failed has said why.
type Done = Result<(), u8>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let done = match arguments.first().map(String::as_str) {
        Some("run") => run(rest),
        Some("wan") => wan(rest),
        Some("test") => check::test(),
        Some("golden") => check::golden(rest),
        Some("weights") => check::weights(rest),
        Some("mutants") => check::mutants(rest),
        Some("fuzz") => check::fuzz(rest),
        Some("torture") => check::torture(rest),
        Some("lengths") => check::lengths(),
        Some("bench") => bench::run(rest),
        Some("full-size") => check::full_size(rest),
        Some("bad-plugins") => check::bad_plugins(),
        Some("new-plugin") => new_plugin(rest),
        Some("plugins") => build::everything(),
        Some("cuda") => cuda::build(rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => {
            eprint!("xtask: there is no command {other}\n\n{HELP}");
            Err(2)
        }
        None => {
            eprint!("{HELP}");
            Err(2)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn run(arguments: &[String]) -> Done {
    let arguments = match arguments.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => arguments,
    };
    wan(&[&["generate".to_string()], arguments].concat())
}

fn wan(arguments: &[String]) -> Done {
    build::everything()?;
    execute(Command::new(build::artifact("wan")).args(arguments))
}

fn new_plugin(arguments: &[String]) -> Done {
    wan(&[&["plugins".to_string(), "new".to_string()], arguments].concat())
}

/// Runs a program to its end.
fn execute(command: &mut Command) -> Done {
    let status = command.status().map_err(|error| {
        eprintln!("xtask: {:?} could not be started: {error}", command.get_program());
        1
    })?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
    }
}

/// The root of the checkout that `cargo xtask` was called in. Not of the one that this program was
/// compiled in: where a target folder is copied along or shared, cargo takes the program for fresh.
fn root() -> PathBuf {
    let named = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = named.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    let root = start.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    match root {
        Some(root) => root.to_path_buf(),
        None => {
            eprintln!("xtask: {} is in no checkout of wan: go into one", start.display());
            std::process::exit(2)
        }
    }
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}
