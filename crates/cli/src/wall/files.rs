//! The files of a child: its parent claims, renames and removes them, and the child only writes to
//! them. So nothing that a library does to the child leaves a file under a final name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wan_outputs::{Claim, Claimed, Entrusted, Kept, Steward};

/// What a child asks for. Claims have the numbers that they were given. A path may be no text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Claim { path: OsString, temporary_in: Option<OsString> },
    Keep(u64),
    GiveUp(u64),
    Remove(u64),
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Claimed { claim: u64, temporary: OsString, was_left: bool, without_lock: bool },
    Taken { by: Option<u32> },
    Done,
    Failed { code: Option<i32>, said: String },
}

impl Answer {
    fn failed(error: &io::Error) -> Self {
        Self::Failed { code: error.raw_os_error(), said: error.to_string() }
    }

    fn into_result(self) -> io::Result<Self> {
        match self {
            Self::Failed { code: Some(code), .. } => Err(io::Error::from_raw_os_error(code)),
            Self::Failed { said, .. } => Err(io::Error::other(said)),
            other => Ok(other),
        }
    }
}

/// The parent's part: what it has claimed for a child. Dropped, what was not kept is gone.
#[derive(Debug, Default)]
pub(super) struct Files {
    next: u64,
    claims: BTreeMap<u64, Claim>,
    kept: BTreeMap<u64, Kept>,
    /// Folders of runs that claims lie in.
    runs: BTreeSet<PathBuf>,
}

impl Files {
    pub(super) fn answer(&mut self, question: Question) -> Answer {
        let done = match question {
            Question::Claim { path, temporary_in } => {
                return self.claim(Path::new(&path), temporary_in.as_deref().map(Path::new));
            }
            Question::GiveUp(number) => {
                self.claims.remove(&number);
                Ok(())
            }
            Question::Keep(number) => match self.claims.remove(&number).map(Claim::keep) {
                Some(Ok(kept)) => {
                    // One that is written again and again is remembered once.
                    self.kept.retain(|_, before| before.path() != kept.path());
                    self.kept.insert(number, kept);
                    Ok(())
                }
                Some(Err(error)) => Err(error),
                None => {
                    return Answer::Failed { code: None, said: "there is no such claim".into() };
                }
            },
            Question::Remove(number) => self.kept.remove(&number).map_or(Ok(()), Kept::remove),
        };
        match done {
            Ok(()) => Answer::Done,
            Err(wan_outputs::Error::Write { source, .. }) => Answer::failed(&source),
            Err(error) => Answer::Failed { code: None, said: error.to_string() },
        }
    }

    /// Gives all claims up; gives the folders of the runs that they lay in.
    pub(super) fn give_up(self) -> BTreeSet<PathBuf> {
        self.runs
    }

    fn claim(&mut self, path: &Path, temporary_in: Option<&Path>) -> Answer {
        self.runs.extend(temporary_in.map(Path::to_path_buf));
        match Claim::of(path, temporary_in) {
            Ok(Claimed::Taken { by }) => Answer::Taken { by },
            Ok(Claimed::Ours { claim, was_left, without_lock }) => {
                let (number, temporary) = (self.next, claim.temporary().into());
                self.next += 1;
                self.claims.insert(number, claim);
                Answer::Claimed { claim: number, temporary, was_left, without_lock }
            }
            Err(error) => Answer::failed(&error),
        }
    }
}

/// The child's part.
#[derive(Debug)]
pub(super) struct Parent {
    /// Asks the parent, and waits for the answer.
    pub(super) ask: fn(Question) -> io::Result<Answer>,
}

impl Parent {
    fn ask(&self, question: Question) -> io::Result<Answer> {
        (self.ask)(question)?.into_result()
    }
}

impl Steward for Parent {
    fn claim(&self, path: &Path, temporary_in: Option<&Path>) -> io::Result<Entrusted> {
        // The working directories of the two may differ: a library can change the child's.
        let path = std::path::absolute(path)?.into();
        let temporary_in = temporary_in.map(std::path::absolute).transpose()?.map(Into::into);
        match self.ask(Question::Claim { path, temporary_in })? {
            Answer::Claimed { claim, temporary, was_left, without_lock } => {
                let temporary = temporary.into();
                Ok(Entrusted::Ours { claim, temporary, was_left, without_lock })
            }
            Answer::Taken { by } => Ok(Entrusted::Taken { by }),
            _ => Err(io::Error::other("the parent gave no claim")),
        }
    }

    fn keep(&self, claim: u64) -> io::Result<()> {
        self.ask(Question::Keep(claim)).map(drop)
    }

    fn give_up(&self, claim: u64) {
        // What is not given up goes when this process ends.
        let _ = self.ask(Question::GiveUp(claim));
    }

    fn remove(&self, claim: u64) -> io::Result<()> {
        self.ask(Question::Remove(claim)).map(drop)
    }
}
