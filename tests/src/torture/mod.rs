//! Runs that are killed, or interrupted, and go on.
//!
//! Of every case there is a quiet run; then runs whose process is ended at a moment that a seed
//! chooses, and which go on, some of them to be ended again, until the video is there. What they
//! make has to be what the quiet run made, and how often they called the model is counted.
#![allow(clippy::disallowed_methods, reason = "starts the program under test")]

mod cases;
mod files;
mod piece;
mod report;
mod victim;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::tiny_model::TinyModel;
use cases::Case;
pub use cases::{CACHES, SOLVERS};
use files::Made;
use piece::Piece;
pub use report::{Phase, Report, Stop};
use victim::Victim;

/// Cases of a seed, before those of the next.
const CASES_OF_SEED: u64 = 77;

/// How a process is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `kill -9`.
    Kill,
    /// Ctrl-C.
    Interrupt,
}

/// What a moment is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    /// Time since the process began.
    Time,
    /// What the process has written.
    Lines,
}

impl Moments {
    /// Runs of a case that are ended, and how often each.
    fn stops(self) -> &'static [usize] {
        match self {
            Self::Time => &[1, 2, 1],
            // In the tests more cases in less time.
            Self::Lines => &[2, 1],
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `wan`, with the project's plugins beside it.
    pub program: PathBuf,
    /// How processes are ended.
    pub ending: Ending,
    /// How many are, at least.
    pub stops: usize,
    /// Of all that is random.
    pub seed: u64,
    /// How moments are chosen.
    pub moments: Moments,
    /// How many processes run at once.
    pub threads: usize,
    /// Where videos of runs that were ended while they decoded are kept.
    pub keep: Option<PathBuf>,
}

/// Where everything lies.
struct World {
    options: Options,
    folder: TempDir,
    experts: PathBuf,
}

/// A case, and what comes of it when nothing happens.
struct Quiet<'w> {
    world: &'w World,
    case: Case,
    folder: PathBuf,
    flags: Vec<String>,
    piece: Piece,
    made: Made,
}

/// Ends as many processes as are asked for; each case is told when it is done.
///
/// # Errors
/// If the program cannot be started, or a quiet run fails.
pub fn torture(options: &Options, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let world = World::new(options.clone())?;
    let (next, stopped) = (AtomicU64::new(0), AtomicUsize::new(0));
    let report = Mutex::new(Ok(Report::new(options.ending)));
    let work = || {
        while stopped.load(Ordering::Relaxed) < options.stops {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let number = options.seed.wrapping_sub(1).wrapping_mul(CASES_OF_SEED) + turn;
            let found = world.case(Case::of(number));
            let Ok(mut report) = report.lock() else { return };
            match (&mut *report, found) {
                (Ok(report), Ok(found)) => {
                    stopped.fetch_add(found.stops.len(), Ordering::Relaxed);
                    tell(&format!("{}: {}", Case::of(number), found.line()));
                    report.add(found);
                }
                (Err(_), _) => return,
                (report, Err(error)) => *report = Err(error),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..options.threads.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    report.into_inner().map_err(|_| anyhow!("a thread has panicked"))?
}

impl World {
    fn new(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("wan-torture-").tempdir()?;
        let experts = folder.path().join("experts");
        TinyModel::t2v_a14b().write(&experts)?;
        if let Some(keep) = &options.keep {
            fs::create_dir_all(keep)?;
        }
        Ok(Self { options, folder, experts })
    }

    /// One case: a quiet run, and runs that are ended.
    fn case(&self, case: Case) -> Result<Report> {
        let folder = self.folder.path().join(case.number.to_string());
        let quiet = Quiet::run(self, case, &folder)?;
        let mut report = Report::new(self.options.ending);
        report.see_quiet(&quiet.case, quiet.piece.reused());
        for (number, stops) in self.options.moments.stops().iter().enumerate() {
            report.add(Victim::run(&quiet, number, *stops)?);
        }
        fs::remove_dir_all(&folder)?;
        Ok(report)
    }
}

impl<'w> Quiet<'w> {
    fn run(world: &'w World, case: Case, folder: &Path) -> Result<Self> {
        let (quiet, before) = (folder.join("quiet"), folder.join("before"));
        fs::create_dir_all(&quiet)?;
        if let Some(flags) = case.flags_of_the_part_before() {
            fs::create_dir_all(&before)?;
            succeed(world, &case, &before, &generate(&flags)).map(drop)?;
        }
        let flags = case.flags(&world.experts, &before.join("out.latents.safetensors"));
        let piece = succeed(world, &case, &quiet, &generate(&flags))?;
        let made = Made::read(&quiet).with_context(|| case.to_string())?;
        if made.pictures.is_some() {
            files::check_with_ffmpeg(&files::video(&quiet))?;
        }
        Ok(Self { world, case, folder: folder.into(), flags, piece, made })
    }
}

/// Runs the program, which must succeed.
fn succeed(world: &World, case: &Case, folder: &Path, arguments: &[String]) -> Result<Piece> {
    let piece = Piece::run(&world.options.program, folder, arguments, None)?;
    ensure!(piece.status.success(), "{case}: {} {}", piece.status, piece.said());
    Ok(piece)
}

/// The command line that begins a run.
fn generate(flags: &[String]) -> Vec<String> {
    let own = ["generate", "--save_file", "out.mp4"].map(String::from);
    [&own[..], &always(), flags].concat()
}

/// The command line that goes on with one.
fn resume() -> Vec<String> {
    [&["resume", "out.run"].map(String::from)[..], &always()].concat()
}

fn always() -> [String; 2] {
    ["--progress=json", "--checkpoint_every=round"].map(String::from)
}
