//! The tests of the copy, one process each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{self, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::list::Mutant;

/// Tests whose expectation is an earlier output of this program: what they notice does not count.
const STORED_EXPECTATIONS: [&str; 2] = ["frozen_documents::", "frozen_layouts::"];

/// Longest time of a test beside what it takes without a mutant.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    binary: PathBuf,
    package: PathBuf,
    /// Without a mutant.
    pub(crate) seconds: f64,
    /// Mutants that it reaches.
    pub(crate) reaches: BTreeSet<u32>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    TookTooLong,
    /// Another test was faster.
    Stopped,
}

/// The mistake that a test runs with, or a file that takes down all that it reaches.
enum Switch<'a> {
    On(u32),
    Log(&'a Path),
}

/// All tests that count, as their binaries list them.
pub(crate) fn list(binaries: &[(PathBuf, PathBuf)]) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (binary, package) in binaries {
        let names = |flags: &[&str]| -> Result<Vec<String>> {
            let mut list = Command::new(binary);
            list.args(["--list", "--format", "terse"]).args(flags);
            let output = list.current_dir(package).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().filter_map(|l| Some(l.strip_suffix(": test")?.to_string())).collect())
        };
        let ignored = names(&["--ignored"])?;
        let counts = |name: &String| {
            !ignored.contains(name) && !STORED_EXPECTATIONS.iter().any(|s| name.starts_with(s))
        };
        tests.extend(names(&[])?.into_iter().filter(counts).map(|name| Test {
            name,
            binary: binary.clone(),
            package: package.clone(),
            seconds: 0.0,
            reaches: BTreeSet::new(),
        }));
    }
    Ok(tests)
}

/// Runs every test without a mutant; gives those that pass, fastest first, with what they reach.
pub(crate) fn reach(tests: Vec<Test>) -> Result<Vec<Test>> {
    let logs = std::env::temp_dir().join(format!("wan-mutants-{}", std::process::id()));
    fs::create_dir_all(&logs)?;
    let queue = sync::Mutex::new(tests.into_iter().enumerate());
    let known = sync::Mutex::new(Vec::new());
    let never = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).next();
                    let Some((number, mut test)) = next else { break };
                    let log = logs.join(number.to_string());
                    let started = Instant::now();
                    let end = run(&test, &Switch::Log(&log), Duration::from_secs(600), &never);
                    test.seconds = started.elapsed().as_secs_f64();
                    let text = fs::read_to_string(&log).unwrap_or_default();
                    test.reaches = text.lines().filter_map(|l| l.parse().ok()).collect();
                    match end {
                        Ok(End::Passed) => {
                            lock(&known).push(test);
                        }
                        other => eprintln!("without a mutant: {} {other:?}", test.name),
                    }
                }
            });
        }
    });
    fs::remove_dir_all(&logs)?;
    let mut known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
    known.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    Ok(known)
}

/// The first test that notices a mutant, and whether by its time; none: it survives.
pub(crate) fn notice(tests: &[Test], mutant: &Mutant) -> Option<(String, bool)> {
    let reach = tests.iter().filter(|test| test.reaches.contains(&mutant.id));
    let is_there_for_it =
        |test: &&Test| mutant.by.as_ref().is_some_and(|by| test.name.contains(by));
    let (first, others): (Vec<&Test>, Vec<&Test>) = reach.partition(is_there_for_it);
    let queue = sync::Mutex::new(first.into_iter().chain(others));
    let found = sync::Mutex::new(None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let next = lock(&queue).next();
                    let Some(test) = next else { break };
                    let patience = PATIENCE + Duration::from_secs_f64(3.0 * test.seconds);
                    let end = run(test, &Switch::On(mutant.id), patience, &stop);
                    if let Ok(End::Failed | End::TookTooLong) = end {
                        stop.store(true, Ordering::Relaxed);
                        let by_time = matches!(end, Ok(End::TookTooLong));
                        let mut found = lock(&found);
                        found.get_or_insert((test.name.clone(), by_time));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// How many tests run side by side.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whatever a panic interrupted left these whole.
fn lock<T>(mutex: &sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(test: &Test, switch: &Switch<'_>, patience: Duration, stop: &AtomicBool) -> Result<End> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(&test.binary);
    command.args(["--exact", &test.name, "--test-threads", "1"]);
    command.current_dir(&test.package).env("CARGO_MANIFEST_DIR", &test.package);
    command.env("RAYON_NUM_THREADS", "1").env("PROPTEST_CASES", "64");
    match switch {
        Switch::On(mutant) => command.env("WAN_MUTANT", mutant.to_string()),
        Switch::Log(path) => command.env("WAN_MUTANTS_REACHED", path),
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, so that what the test starts ends with it.
    let mut child = command.process_group(0).spawn().with_context(|| test.name.clone())?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Passed } else { End::Failed });
        }
        let stopped = stop.load(Ordering::Relaxed);
        if stopped || started.elapsed() > patience {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status()?;
            child.wait()?;
            return Ok(if stopped { End::Stopped } else { End::TookTooLong });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
