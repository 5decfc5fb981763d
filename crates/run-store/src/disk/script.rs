//! A disk that fails as a test says, and that can lose power.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Disk, Step};

/// Which steps a plan counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    Write,
    Flush,
    Rename,
}

/// Which steps fail. Numbers begin at 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plan {
    /// None.
    Quiet,
    /// One.
    Nth { kind: Kind, number: usize },
    /// That one of any kind, and the next.
    Two { number: usize },
    /// That one and all after it: the process ends there.
    EndAt { number: usize },
}

/// A change of names that the folder's flush has yet to make sure.
#[derive(Debug)]
enum Change {
    Made(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl Change {
    fn name(&self) -> &Path {
        match self {
            Self::Made(path) | Self::Renamed(_, path) => path,
        }
    }
}

#[derive(Debug)]
struct State {
    plan: Plan,
    counts: Vec<Kind>,
    has_failed: bool,
    /// Bytes of each file that are sure to be on the disk.
    sure: BTreeMap<PathBuf, u64>,
    changes: Vec<Change>,
}

/// What fails, and what has happened.
#[derive(Debug)]
pub(crate) struct Script {
    state: Mutex<State>,
    /// Whether half of a write that fails is there all the same.
    tears: bool,
}

impl Script {
    pub(crate) fn disk(plan: Plan, tears: bool) -> (Disk, Arc<Self>) {
        let (counts, sure, changes) = (Vec::new(), BTreeMap::new(), Vec::new());
        let state = Mutex::new(State { plan, counts, has_failed: false, sure, changes });
        let script = Arc::new(Self { state, tears });
        (Disk { script: Some(script.clone()), ..Disk::default() }, script)
    }

    pub(crate) fn tears(&self) -> bool {
        self.tears
    }

    /// Whether the plan has come to its step.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().unwrap().has_failed
    }

    /// How many steps of a kind there were.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let state = self.state.lock().unwrap();
        state.counts.iter().filter(|step| kind == Kind::Any || **step == kind).count()
    }

    pub(crate) fn before(&self, step: Step<'_>) -> io::Result<()> {
        let kind = match step {
            Step::Write(_) => Kind::Write,
            Step::Flush(_) | Step::FlushFolder(_) => Kind::Flush,
            Step::Rename(..) => Kind::Rename,
            _ => Kind::Any,
        };
        let mut state = self.state.lock().unwrap();
        let of_kind = |of: Kind| state.counts.iter().filter(move |k| of == Kind::Any || **k == of);
        let fails = match state.plan {
            Plan::Quiet => false,
            Plan::Nth { kind: of, number } => {
                (of == Kind::Any || of == kind) && of_kind(of).count() == number
            }
            Plan::Two { number } => (number..number + 2).contains(&state.counts.len()),
            Plan::EndAt { number } => state.counts.len() >= number,
        };
        state.counts.push(kind);
        if let Step::Write(path) = step {
            let bytes = length(path);
            state.sure.entry(path.into()).or_insert(bytes);
        }
        if fails {
            state.has_failed = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.note(step);
        Ok(())
    }

    /// What the disk has after a power cut: no byte that no flush has made sure, and no name.
    pub(crate) fn lose_power(&self) {
        let mut state = self.state.lock().unwrap();
        for (path, bytes) in &state.sure {
            if length(path) > *bytes {
                OpenOptions::new().write(true).open(path).unwrap().set_len(*bytes).unwrap();
            }
        }
        for change in state.changes.drain(..).rev() {
            match change {
                // It may have failed, or be gone since.
                Change::Made(path) if path.is_dir() => fs::remove_dir_all(path).unwrap(),
                Change::Made(path) => drop(fs::remove_file(path)),
                Change::Renamed(from, to) => drop(fs::rename(to, from)),
            }
        }
    }
}

impl State {
    fn note(&mut self, step: Step<'_>) {
        match step {
            Step::MakeFolder(path) => self.changes.push(Change::Made(path.into())),
            Step::Make(path) if !path.exists() => {
                self.changes.push(Change::Made(path.into()));
                self.sure.insert(path.into(), 0);
            }
            Step::Cut(path, bytes) => {
                let sure = self.sure.entry(path.into()).or_insert(bytes);
                *sure = bytes.min(*sure);
            }
            Step::Flush(path) => drop(self.sure.insert(path.into(), length(path))),
            Step::FlushFolder(folder) => {
                self.changes.retain(|change| change.name().parent() != Some(folder));
            }
            Step::Rename(from, to) => {
                let bytes = self.sure.remove(from).unwrap_or_else(|| length(from));
                self.sure.insert(to.into(), bytes);
                self.changes.push(Change::Renamed(from.into(), to.into()));
            }
            Step::RemoveFolder(path) => self.changes.retain(|change| change.name() != path),
            Step::Remove(path) => drop(self.sure.remove(path)),
            _ => {}
        }
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}
