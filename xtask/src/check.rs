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
    step("tests", || tests(Which::Plain))?;
    let has_ffmpeg = is_there(Command::new("ffmpeg").arg("-version"));
    if has_ffmpeg {
        step("tests with ffmpeg", || tests(Which::WithFfmpeg))?;
    }
    step("doc tests", || execute(cargo().args(["test", "--workspace", "--doc", "--quiet"])))?;
    step("golden", || golden(&[]))?;
    step("mutants", || audit(&["part".into()]))?;
    step("docs", || {
        execute(
            cargo()
                .args(["doc", "--workspace", "--no-deps", "--quiet"])
                .env("RUSTDOCFLAGS", "--deny warnings"),
        )
    })?;
    if !has_ffmpeg {
        eprintln!("── skipped: tests with ffmpeg: there is none on the PATH");
    }
    Ok(())
}

/// Which tests.
#[derive(Clone, Copy)]
enum Which {
    /// That need no more than was built.
    Plain,
    /// That are ignored elsewhere, since they need ffmpeg.
    WithFfmpeg,
}

/// With nextest where it is installed: it closes with a line that counts the tests.
fn tests(which: Which) -> Done {
    let has_nextest = is_there(cargo().args(["nextest", "--version"]));
    let arguments: &[&str] = match (which, has_nextest) {
        (Which::Plain, true) => &["nextest", "run", "--workspace"],
        (Which::Plain, false) => &["test", "--workspace", "--lib", "--bins", "--tests"],
        (Which::WithFfmpeg, true) => {
            &["nextest", "run", "--workspace", "--run-ignored", "only", "ffmpeg::"]
        }
        (Which::WithFfmpeg, false) => {
            &["test", "--workspace", "--test", "it", "--", "--ignored", "ffmpeg::"]
        }
    };
    // nextest runs tests side by side, so each gets one thread for its tensors.
    let threads = has_nextest.then_some(("RAYON_NUM_THREADS", "1"));
    execute(cargo().args(arguments).envs(threads))
}

/// Whether a program can be started and succeeds.
fn is_there(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
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

/// Weight files as people have them: each loads, or is refused with the right words.
pub(crate) fn weights(arguments: &[String]) -> Done {
    build::everything()?;
    execute(Command::new(build::artifact("wan-weights")).args(arguments))
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

/// The tests take a few; this as many as are asked for.
pub(crate) fn fuzz(arguments: &[String]) -> Done {
    build::everything()?;
    execute(Command::new(build::artifact("wan-fuzz")).current_dir(root()).args(arguments))
}

/// The tests take twenty kills; this as many as are asked for.
pub(crate) fn torture(arguments: &[String]) -> Done {
    build::everything()?;
    execute(Command::new(build::artifact("wan-torture")).args(arguments))
}

/// Memory against the length of a video.
pub(crate) fn lengths() -> Done {
    build::everything()?;
    execute(&mut Command::new(build::artifact("wan-lengths")))
}

/// The 14B from files of full size, written to a folder, under limits of memory.
pub(crate) fn full_size(arguments: &[String]) -> Done {
    build::everything()?;
    execute(Command::new(build::artifact("wan-full-size")).args(arguments))
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
