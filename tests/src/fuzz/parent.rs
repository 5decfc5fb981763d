//! Starts a process for each kind, and again behind an input that ended it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::Options;
use crate::kinds::{KINDS, Kind};
use crate::seeds;
use crate::worker::{self, AT, Outcome, Reader, TOO_LONG, folder_of};
use crate::world::World;

/// Ends of a kind's process after which the kind is given up.
const ENDS_MAX: usize = 50;

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("wan-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a kind came to.
#[derive(Default)]
struct Report {
    accepted: u64,
    most: u64,
    seconds: f64,
    inputs: u64,
    /// Of each finding: how often, and the number of its first input.
    found: BTreeMap<String, (u64, u64)>,
}

/// Feeds damaged files to the readers; whether nothing was found.
pub(crate) fn fuzz(options: &Options) -> Result<bool> {
    let world = Folder::new()?;
    seeds::write(&World::make(&world.0)?)?;
    let wanted =
        |kind: &&Kind| options.only.is_empty() || options.only.iter().any(|n| n == kind.name);
    let kinds = Mutex::new(KINDS.iter().filter(wanted));
    let outcomes = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = kinds.lock().ok().and_then(|mut kinds| kinds.next());
                    let Some(kind) = next else { break };
                    let outcome = one(kind, &world.0, options);
                    if let Ok(report) = &outcome {
                        say(kind, report);
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().map_err(|_| anyhow!("a thread has panicked"))?;
    let reports = outcomes.into_iter().collect::<Result<Vec<Report>>>()?;
    Ok(reports.iter().all(|report| report.found.is_empty()))
}

fn say(kind: &Kind, report: &Report) {
    println!(
        "{:14} {} inputs, {} accepted, {:.0} a second, at most {:.1} MiB, {} found",
        kind.name,
        report.inputs,
        report.accepted,
        report.inputs as f64 / report.seconds.max(1e-9),
        report.most as f64 / f64::from(1 << 20),
        report.found.len()
    );
    for (why, (times, number)) in &report.found {
        println!("    {times} x {why} (first: input {number})");
    }
}

/// All inputs of a kind.
fn one(kind: &Kind, world: &Path, options: &Options) -> Result<Report> {
    let (mut report, mut from, started) = (Report::default(), 0, Instant::now());
    let seeds = seeds::of(kind, world)?;
    report.inputs = options.inputs + seeds.len() as u64;
    for _ in 0..ENDS_MAX {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", kind.name]).arg(world);
        command.args([from, options.inputs, options.seed].map(|number: u64| number.to_string()));
        // Many threads at once wait for each other, and their stacks take addresses.
        command.env("RAYON_NUM_THREADS", "1");
        // Else every error that a reader gives walks the stack.
        command.env_remove("RUST_BACKTRACE");
        let output = command.stderr(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().for_each(|line| report.add(line));
        match output.status.code() {
            Some(0 | 1) => break,
            Some(2) => {
                return Err(anyhow!("{}: {}", kind.name, String::from_utf8_lossy(&output.stderr)));
            }
            code => {
                let number = at(kind, world)?;
                if code != Some(i32::from(TOO_LONG)) {
                    let errors = String::from_utf8_lossy(&output.stderr);
                    let last = errors.lines().last().unwrap_or_default().to_string();
                    report.note(format!("end: {} {last}", output.status), number);
                }
                let bytes = worker::input(kind, &seeds, options.seed, number);
                worker::keep(&folder_of(kind, world), &format!("{number}-end"), &bytes)?;
                from = number + 1;
            }
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    keep(kind, world, &options.keep)?;
    Ok(report)
}

/// The number of the input that a process ended at.
fn at(kind: &Kind, world: &Path) -> Result<u64> {
    let bytes = fs::read(folder_of(kind, world).join(AT))?;
    let number = bytes.first_chunk().context("it ended before its first input")?;
    Ok(u64::from_le_bytes(*number))
}

/// Copies what was found to where it stays.
fn keep(kind: &Kind, world: &Path, to: &Path) -> Result<()> {
    let found = seeds::files_in(&folder_of(kind, world).join("found"))?;
    if found.is_empty() {
        return Ok(());
    }
    let to = to.join(kind.name);
    fs::create_dir_all(&to)?;
    for file in found {
        fs::copy(&file, to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

impl Report {
    /// Takes a line of a process.
    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["found", what, number, why] => {
                self.note(format!("{what}: {why}"), number.parse().unwrap_or(0));
            }
            ["accepted", count, "most", bytes] => {
                self.accepted += count.parse::<u64>().unwrap_or(0);
                self.most = self.most.max(bytes.parse().unwrap_or(0));
            }
            _ => {}
        }
    }

    fn note(&mut self, why: String, number: u64) {
        self.found.entry(why).or_insert((0, number)).0 += 1;
    }
}

/// Reads one file here, and says what came of it.
pub(crate) fn read(kind: &Kind, file: &Path) -> Result<bool> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let world = Folder::new()?;
    seeds::write(&World::make(&world.0)?)?;
    let started = Instant::now();
    let outcome = Reader::new(kind, &world.0)?.read(0, &bytes)?;
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Outcome::Accepted => println!("accepted in {seconds:.2} s"),
        Outcome::Refused(why) => println!("refused in {seconds:.2} s: {why}"),
        Outcome::Found(what, why) => {
            println!("{what} in {seconds:.2} s: {why}");
            return Ok(false);
        }
    }
    Ok(true)
}
