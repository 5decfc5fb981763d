//! The program: its start, and a run of the demo model, as `cargo xtask run` builds it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::peak;
use crate::row::{Goal, Made, Pass, Row};

/// Rows of the program that xtask names.
pub(crate) fn rows(program: Option<&Path>) -> Vec<Row> {
    let Some(program) = program else { return Vec::new() };
    let row = |name: &str, what: &str, unit, goal, pass: fn(PathBuf) -> Pass| {
        let program = program.to_path_buf();
        Row {
            name: name.into(),
            what: what.into(),
            unit,
            goal,
            peer: None,
            make: Box::new(move || Ok(Made { pass: pass(program.clone()), work: None })),
        }
    };
    vec![
        row("version", "`wan --version`", "ms", Goal::Figure(20.0, 10.0), |program| {
            Box::new(move || Ok(1e3 * seconds(&program, &["--version"])?))
        }),
        row("version-peak", "`wan --version`, resident at most", "MiB", Goal::None, |program| {
            Box::new(move || peak::of_program(&program, &["--version"]))
        }),
        row("demo", "`wan generate`, the demo model", "s", Goal::Figure(1.0, 0.8), |program| {
            Box::new(move || demo(&program))
        }),
    ]
}

/// Seconds of a run with the defaults.
fn demo(program: &Path) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let video = folder.path().join("demo.mp4");
    seconds(program, &["generate", "--progress", "quiet", "--save_file", &video.to_string_lossy()])
}

fn seconds(program: &Path, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    ensure!(command.status()?.success(), "wan {arguments:?} failed");
    Ok(started.elapsed().as_secs_f64())
}
