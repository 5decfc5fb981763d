//! Holds a plugin library to what the host relies on: `wan plugins check LIB`.
//!
//! A library can hang, abort or eat all memory, so nothing of it runs in the process that judges
//! it: each [`Case`] is the running program started again (`process.rs`) with the command `plugins
//! answer`, which has to call [`answer`]. It has a limit on time and memory, and its answer comes back
//! in a file. In the manner of clap-validator, [`Test`] is one enum, and an [`Outcome`] is one of six
//! words and a line of facts.
//!
//! It knows the host's loader and `wan_plugin_kit`: samplers are driven over the kit's plain vectors,
//! and caches are held to its invariants. So no model is needed, and a check takes seconds. It never
//! has a tensor of the host, and knows no strategy by name.

mod cache;
mod dice;
mod library;
mod options;
mod outcome;
mod patience;
mod process;
mod report;
mod sampler;
mod sets;
mod subject;
mod surroundings;
mod test;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use wan_host::Result;
use wan_host::parts::{OpenedPlugin, Registry};

pub use outcome::{Outcome, Status};
pub use process::answer;
pub use report::{Finding, Report};
pub use test::{Case, Scope, Test};

/// What to check, and how long to wait.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// These tests alone; empty: all.
    pub only: Vec<Test>,
    /// Where random inputs begin.
    pub seed: u64,
    /// Longest time of one test.
    pub timeout: Duration,
    /// Most memory of one test, in bytes of address space.
    pub memory_bytes_max: u64,
    /// The strategies that the program has without this library, its flags and what may be loaded at
    /// all.
    pub beside: Registry,
}

/// Checks a library.
///
/// # Errors
/// If the file cannot be read or may not be loaded, or this program cannot be started again.
/// Whatever the library does is in the report.
pub fn check(library: &Path, settings: &CheckOptions) -> Result<Report> {
    let (path, hash) = OpenedPlugin::identify(library, settings.beside.allowed())?;
    let mut report = Report::new(path, hash, settings.seed);
    // The first case tells what the library offers; without it there is nothing more to ask.
    let first = Case::of_library(Test::Manifest);
    let file = (&*report.path, &*report.hash);
    let (outcome, description) = process::run(file, &first, settings)?;
    report.description = description;
    if settings.selects(Test::Manifest) || !outcome.status.is_good() {
        report.findings.push(Finding { case: first, outcome });
    }
    let cases = report.cases().into_iter().filter(|case| settings.selects(case.test)).collect();
    let mut findings = side_by_side((&report.path, &report.hash), cases, settings)?;
    if let Some(description) = &report.description {
        let metadata = findings.iter_mut().filter(|f| f.case.test == Test::Metadata);
        metadata.for_each(|f| library::stand_beside(&settings.beside, description, &mut f.outcome));
    }
    report.findings.extend(findings);
    Ok(report)
}

impl CheckOptions {
    fn selects(&self, test: Test) -> bool {
        self.only.is_empty() || self.only.contains(&test)
    }
}

/// Runs the cases, as many at a time as there are processors; findings are in the cases' order.
fn side_by_side(
    library: (&Path, &str),
    cases: Vec<Case>,
    settings: &CheckOptions,
) -> Result<Vec<Finding>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    let waiting = Mutex::new(cases.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).next();
                    let Some((place, case)) = next else { break };
                    let outcome = process::run(library, &case, settings);
                    lock(&done).push((place, case, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(place, ..)| *place);
    done.into_iter().map(|(_, case, outcome)| Ok(Finding { case, outcome: outcome?.0 })).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a case's own process is told.
#[derive(Debug, Clone)]
pub struct Errand {
    /// The library.
    pub library: PathBuf,
    /// SHA-256 of it, as it was when the check began.
    pub hash: Option<String>,
    /// The test, and of which strategy.
    pub case: Case,
    /// Where random inputs begin.
    pub seed: u64,
    /// Most bytes of address space.
    pub memory_bytes_max: u64,
    /// Where the answer goes.
    pub answer: PathBuf,
}
