//! What CI checks, in the order in which a mistake is cheapest to find.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::build;
use crate::{Done, cargo, execute, root};

/// Golden cases that the project carries.
const GOLDEN: &str = "tests/golden";

pub(crate) fn test() -> Done {
    step("format", || execute(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        execute(
            cargo()
                .args(["clippy", "--workspace", "--all-targets", "--quiet", "--"])
                .args(["--deny", "warnings"]),
        )
    })?;
    step("build", build::everything)?;
    step("tests", tests)?;
    step("doc tests", || execute(cargo().args(["test", "--workspace", "--doc", "--quiet"])))?;
    step("golden", || golden(&[]))?;
    step("mutants", || audit(&["part".into()]))?;
    step("docs", || {
        execute(
            cargo()
                .args(["doc", "--workspace", "--no-deps", "--quiet"])
                .env("RUSTDOCFLAGS", "--deny warnings"),
        )
    })
}

/// With nextest where it is installed: it closes with a line that counts the tests.
fn tests() -> Done {
    let has_nextest = cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    // Tests run side by side, so each gets one thread for its tensors.
    match has_nextest {
        true => {
            execute(cargo().args(["nextest", "run", "--workspace"]).env("RAYON_NUM_THREADS", "1"))
        }
        false => execute(cargo().args(["test", "--workspace", "--lib", "--bins", "--tests"])),
    }
}

pub(crate) fn golden(arguments: &[String]) -> Done {
    build::everything()?;
    let folder = arguments.first().map_or(GOLDEN, String::as_str);
    let mut runner = Command::new(build::artifact("wan-golden"));
    match arguments.is_empty() {
        true => execute(runner.current_dir(root()).arg(folder)),
        false => execute(runner.arg(folder)),
    }
}

/// Planted mistakes: those of the caches, which the tests run as well, and those of the engine.
pub(crate) fn mutants(arguments: &[String]) -> Done {
    match arguments.split_first() {
        None => caches(&[]).and_then(|()| audit(&[])),
        Some((first, rest)) if first == "caches" => caches(rest),
        Some((first, rest)) if first == "engine" => audit(rest),
        Some((other, _)) => {
            eprintln!("xtask mutants: caches or engine, not {other}");
            Err(2)
        }
    }
}

fn caches(arguments: &[String]) -> Done {
    build::everything()?;
    let mut runner = Command::new(build::artifact("wan-mutants"));
    execute(runner.args(arguments))
}

fn audit(arguments: &[String]) -> Done {
    build::everything()?;
    let mut runner = Command::new(build::artifact("wan-audit"));
    execute(runner.current_dir(root()).args(arguments))
}

/// The tests run them as well; this shows a line for each.
pub(crate) fn bad_plugins() -> Done {
    build::everything()?;
    execute(&mut Command::new(build::artifact("wan-bad-plugins")))
}

fn step(name: &str, body: impl FnOnce() -> Done) -> Done {
    eprintln!("── {name}");
    let started = Instant::now();
    let done = body();
    let outcome = if done.is_ok() { "ok" } else { "FAILED" };
    eprintln!("── {name}: {outcome} in {:.0} s", started.elapsed().as_secs_f64());
    done
}
