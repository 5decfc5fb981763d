//! The process that reads damaged files of one kind.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::parent_id;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::kinds::Kind;
use crate::mutator;
use crate::seeds::{self, Seed};
use crate::world::{MODEL, World};
use wan_tests::allocator;
use wan_tests::dice::Dice;

/// Address space of the process.
const ADDRESS_SPACE: u64 = 8 << 30;

/// Most that a reader may allocate, beside some times the file.
pub(crate) const ROOM: usize = 64 << 20;

/// Longest time of a reader: of the processor, and of the clock where it waits for anything else.
const TIME_MAX: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Exit code after a reader that took too long.
pub(crate) const TOO_LONG: u8 = 3;

/// Exit code of a process whose parent has ended.
const ALONE: u8 = 4;

/// Name of the file with the number of the input that is being read.
pub(crate) const AT: &str = "at";

/// Where and why the last panic was.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Inputs that were read so far: by this the watch sees that nothing hangs.
static READ: AtomicU64 = AtomicU64::new(0);

/// The folder of a kind's process, in that of the world.
pub(crate) fn folder_of(kind: &Kind, world: &Path) -> PathBuf {
    world.join("work").join(kind.name)
}

/// Reads the inputs `from` to `to` of this seed: first those that are valid or kept, as they are.
pub(crate) fn run(kind: &Kind, world: &Path, numbers: (u64, u64, u64)) -> Result<bool> {
    let (from, to, seed) = numbers;
    limit()?;
    let seeds = seeds::of(kind, world)?;
    let mut reader = Reader::new(kind, world)?;
    reader.note(from)?;
    watch();
    let (mut accepted, mut good) = (0, true);
    for number in from..to + seeds.len() as u64 {
        let kept = usize::try_from(number).ok().and_then(|number| seeds.get(number));
        let bytes = input(kind, &seeds, seed, number);
        match reader.read(number, &bytes)? {
            Outcome::Accepted => accepted += 1,
            Outcome::Refused(why) if kept.is_some_and(|seed| seed.is_valid) => {
                good = false;
                found("refused", number, &why);
            }
            Outcome::Refused(_) => {}
            Outcome::Found(what, why) => {
                good = false;
                found(what, number, &why);
                keep(&folder_of(kind, world), &format!("{number}-{what}"), &bytes)?;
            }
        }
        READ.fetch_add(1, Relaxed);
    }
    println!("accepted {accepted} most {}", reader.most);
    Ok(good)
}

/// An input by its number.
pub(crate) fn input(kind: &Kind, seeds: &[Seed], seed: u64, number: u64) -> Vec<u8> {
    if let Some(kept) = usize::try_from(number).ok().and_then(|number| seeds.get(number)) {
        return kept.bytes.clone();
    }
    let mut dice = Dice::new(seed, number);
    let (valid, other) = (dice.pick(seeds), dice.pick(seeds));
    mutator::damaged(kind.format, valid, &other.bytes, &mut dice)
}

/// Says on standard output what was found: one line.
fn found(what: &str, number: u64, why: &str) {
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    println!("found {what} {number} {why}");
}

/// Keeps an input.
pub(crate) fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = folder.join("found");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes).context("what was found cannot be kept")
}

/// What came of an input.
pub(crate) enum Outcome {
    Accepted,
    /// With an error.
    Refused(String),
    /// What must not be: its name, and what is known of it.
    Found(&'static str, String),
}

/// A reader, and its surroundings.
pub(crate) struct Reader<'k> {
    kind: &'k Kind,
    world: World,
    path: PathBuf,
    file: File,
    at: File,
    /// Most bytes that an input took.
    most: usize,
}

impl<'k> Reader<'k> {
    /// Lays out a folder of its own in that of the world.
    pub(crate) fn new(kind: &'k Kind, world: &Path) -> Result<Self> {
        let folder = folder_of(kind, world);
        copy_folder(&world.join(MODEL), &folder.join(MODEL))?;
        for shard in ["one.safetensors", "two.safetensors"] {
            fs::copy(world.join(shard), folder.join(shard))?;
        }
        let path = folder.join(kind.place);
        let open = |path: &Path| File::options().write(true).create(true).truncate(true).open(path);
        let (file, at) = (open(&path)?, open(&folder.join(AT))?);
        std::panic::set_hook(Box::new(|panic| {
            let mut said = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            *said = panic.to_string();
        }));
        Ok(Self { kind, world: World::open(&folder)?, path, file, at, most: 0 })
    }

    /// Takes note of the input that comes next, for whoever starts a process behind it.
    fn note(&self, number: u64) -> Result<()> {
        Ok(self.at.write_all_at(&number.to_le_bytes(), 0)?)
    }

    /// Reads one input.
    pub(crate) fn read(&mut self, number: u64, bytes: &[u8]) -> Result<Outcome> {
        self.note(number)?;
        self.file.write_all_at(bytes, 0)?;
        self.file.set_len(bytes.len() as u64)?;
        let before = allocator::begin();
        let (world, path, read) = (&self.world, &self.path, self.kind.read);
        let outcome = catch_unwind(AssertUnwindSafe(|| read(world, path)));
        let took = allocator::most().saturating_sub(before);
        self.most = self.most.max(took);
        let allowed = self.kind.format.times_allowed() * bytes.len() + ROOM;
        Ok(match outcome {
            Err(_) => {
                let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Outcome::Found("panic", said)
            }
            Ok(_) if took > allowed => {
                Outcome::Found("memory", format!("{took} bytes, {allowed} are allowed"))
            }
            Ok(Ok(())) => Outcome::Accepted,
            Ok(Err(error)) => Outcome::Refused(format!("{error:#}")),
        })
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to);
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

/// An allocation that is too large fails, and the file of a crash is not written.
fn limit() -> Result<()> {
    rlimit::setrlimit(rlimit::Resource::AS, ADDRESS_SPACE, ADDRESS_SPACE)?;
    rlimit::setrlimit(rlimit::Resource::CORE, 0, 0)?;
    Ok(())
}

/// Ends the process where an input takes too long, or nobody is left who reads what was found.
fn watch() {
    let parent = parent_id();
    std::thread::spawn(move || {
        let (mut seen, mut since, mut before) = (u64::MAX, Instant::now(), Turns::now());
        loop {
            std::thread::sleep(Duration::from_millis(100));
            if parent_id() != parent {
                std::process::exit(ALONE.into());
            }
            let read = READ.load(Relaxed);
            if read != seen {
                (seen, since, before) = (read, Instant::now(), Turns::now());
                continue;
            }
            let (worked, waited) = match (Turns::now(), before) {
                (Some(now), Some(before)) => now.since(before, since.elapsed()),
                // No system that tells.
                _ => (since.elapsed(), since.elapsed()),
            };
            if worked > TIME_MAX || waited > WAIT_MAX {
                println!("found hang {seen} more than {} s", worked.max(waited).as_secs());
                let _ = std::io::stdout().flush();
                std::process::exit(TOO_LONG.into());
            }
        }
    });
}

/// What the process has had of the processor, and how long the thread that reads stood in line for
/// it: where others have it, a reader that waits for its turn is not one that hangs.
#[derive(Clone, Copy)]
struct Turns {
    had: Duration,
    in_line: Duration,
}

impl Turns {
    /// Linux counts the former in hundredths of a second.
    fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let had = Duration::from_millis((ticks()? + ticks()?) * 10);
        // The reader's thread is the first, whose number is the process's.
        let first = format!("/proc/self/task/{}/schedstat", std::process::id());
        let line = fs::read_to_string(first).ok()?;
        let in_line = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { had, in_line: Duration::from_nanos(in_line) })
    }

    /// Of the time that has gone by since then: how long it worked, and how long it waited for
    /// something else than its turn.
    fn since(self, before: Self, elapsed: Duration) -> (Duration, Duration) {
        let worked = self.had.saturating_sub(before.had);
        let in_line = self.in_line.saturating_sub(before.in_line);
        (worked, elapsed.saturating_sub(worked + in_line))
    }
}
