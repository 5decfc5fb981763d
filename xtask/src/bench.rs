//! How long the networks take, and the program's start.

use std::process::Command;

use crate::build;
use crate::{Done, cargo, execute};

/// The measuring program is built in the release profile; the `wan` whose start it measures is that of
/// `cargo xtask run`.
pub(crate) fn run(arguments: &[String]) -> Done {
    build::everything()?;
    let built = ["build", "--release", "--quiet", "-p", "wan-tests", "--bin", "wan-bench"];
    execute(cargo().args(built))?;
    let release = build::artifact("").join("../release");
    let mut bench = Command::new(release.join("wan-bench"));
    execute(bench.arg("--program").arg(build::artifact("wan")).args(arguments))
}
