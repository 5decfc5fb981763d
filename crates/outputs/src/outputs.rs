//! All files that a command will write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::claim::{Claim, Claimed, temporary_name};
use crate::error::{Error, Result};
use crate::folder::{folder_of, is_one_file_system};
use crate::lock::identity;
use crate::space::free_bytes;
use crate::steward::Steward;

/// Longest name of a file, in bytes, of the file systems in use.
const NAME_BYTES_MAX: usize = 255;

/// A file that a command will write.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The setting that names it, for errors.
    pub field: String,
    /// Its name.
    pub path: PathBuf,
    /// Whether the file that is there is one that this program made, and may be replaced.
    pub is_ours: fn(&Path) -> bool,
    /// Bytes that it will take, by estimate; 0 where nobody knows.
    pub bytes: u64,
    /// Where it lies while it is written: a folder of the same file system, or beside its name.
    pub temporary_in: Option<PathBuf>,
}

/// A file that was claimed.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    temporary: PathBuf,
    field: String,
}

/// What a command may write to, and what it has claimed.
#[derive(Debug, Default)]
pub struct Outputs {
    overwrite: bool,
    inputs: Vec<(PathBuf, (u64, u64))>,
    claimed: Vec<Own>,
    /// Bytes that the claimed files will take and that are not reserved.
    needed: u64,
    notices: Vec<String>,
    said_without_lock: bool,
    steward: Option<Arc<dyn Steward>>,
}

/// Why a file cannot be claimed.
enum Refusal {
    /// A file is there, or is being written: another name may do.
    Taken(String),
    /// No other name would do better.
    Final(Error),
}

impl Refusal {
    fn into_error(self, wanted: &Wanted) -> Error {
        match self {
            Self::Final(error) => error,
            Self::Taken(why) => refused(wanted, why),
        }
    }
}

impl Outputs {
    /// Where `overwrite` is set, files of others are replaced, too; inputs never are.
    pub fn new(overwrite: bool) -> Self {
        Self { overwrite, ..Self::default() }
    }

    /// The same, where another process has the files, and this one only writes to them.
    #[must_use]
    pub fn through(self, steward: Option<Arc<dyn Steward>>) -> Self {
        Self { steward, ..self }
    }

    /// From now on refuses to write to this file, whatever name it is given by. What is not there
    /// is no input.
    pub fn protect(&mut self, input: &Path) {
        let about = fs::metadata(input).ok().filter(fs::Metadata::is_file);
        if let Some(known) = about.as_ref().and_then(identity) {
            self.inputs.push((input.to_path_buf(), known));
        }
    }

    /// What whoever started the command should know, once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Claims a file under the name that it was given.
    ///
    /// # Errors
    /// [`Error::Refused`] if it must not or cannot be written there, [`Error::NoRoom`] if the disk
    /// is too full for all that was claimed so far.
    pub fn claim(&mut self, wanted: &Wanted) -> Result<Claim> {
        let claim = self.try_claim(wanted, Replaces::What(self.overwrite));
        claim.map_err(|refusal| refusal.into_error(wanted))
    }

    /// Claims files that belong together, under the first names at which nothing is: `named` gives
    /// them for number 1, 2, ... .
    ///
    /// # Errors
    /// As [`claim`](Self::claim), if no number would help.
    pub fn claim_free(&mut self, named: impl Fn(usize) -> Vec<Wanted>) -> Result<Vec<Claim>> {
        for number in 1.. {
            let before = (self.claimed.len(), self.needed);
            let wanted = named(number);
            let claims: std::result::Result<Vec<Claim>, Refusal> =
                wanted.iter().map(|wanted| self.try_claim(wanted, Replaces::Nothing)).collect();
            match claims {
                Ok(claims) => return Ok(claims),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Taken(_)) => {
                    self.claimed.truncate(before.0);
                    self.needed = before.1;
                }
            }
        }
        unreachable!("there is always another number")
    }

    /// Looks whether a file can be claimed under the name that it was given, as far as that can be
    /// known without a temporary file.
    ///
    /// # Errors
    /// [`Error::Refused`] if it must not or cannot be written there.
    pub fn check(&self, wanted: &Wanted) -> Result<()> {
        check_name(&wanted.path).map_err(|why| refused(wanted, why))?;
        check_folder(&wanted.path).map_err(|why| refused(wanted, why))?;
        let there = self.check_what_is_there(wanted, Replaces::What(self.overwrite));
        there.map_err(|refusal| refusal.into_error(wanted))
    }

    fn try_claim(
        &mut self,
        wanted: &Wanted,
        replaces: Replaces,
    ) -> std::result::Result<Claim, Refusal> {
        let last = |why: String| Refusal::Final(refused(wanted, why));
        check_name(&wanted.path).map_err(last)?;
        check_folder(&wanted.path).map_err(last)?;
        let temporary_in = wanted.temporary_in.as_deref();
        if let Some(folder) = temporary_in {
            check_one_file_system(folder, &wanted.path).map_err(last)?;
        }
        self.check_what_is_there(wanted, replaces)?;
        if self.is_at_work_elsewhere(wanted) {
            return Err(Refusal::Taken(self.writer(wanted, None)));
        }
        let claimed = match &self.steward {
            Some(steward) => Claim::through(steward, &wanted.path, temporary_in),
            None => Claim::of(&wanted.path, temporary_in),
        };
        let claimed = claimed.map_err(|e| last(format!("cannot write it ({e})")))?;
        let mut claim = match claimed {
            Claimed::Taken { by } => return Err(Refusal::Taken(self.writer(wanted, by))),
            Claimed::Ours { claim, was_left, without_lock } => {
                self.note(&claim, was_left, without_lock);
                claim
            }
        };
        // Another may have finished it between our look and our lock.
        self.check_what_is_there(wanted, replaces)?;
        self.take_room(wanted, &mut claim).map_err(Refusal::Final)?;
        let (path, temporary) = (claim.path().into(), claim.temporary().into());
        let own = Own { path, temporary, field: wanted.field.clone() };
        // One that is written again and again is remembered once.
        match self.claimed.iter_mut().find(|before| before.temporary == own.temporary) {
            Some(before) => *before = own,
            None => self.claimed.push(own),
        }
        Ok(claim)
    }

    fn note(&mut self, claim: &Claim, was_left: bool, without_lock: bool) {
        if without_lock && !std::mem::replace(&mut self.said_without_lock, true) {
            self.notices.push(format!(
                "{}: this file system has no locks; do not start two runs into one name",
                folder_of(claim.path()).display()
            ));
        } else if was_left && !without_lock {
            self.notices.push(format!(
                "{}: took over what a run that ended early has left",
                claim.temporary().display()
            ));
        }
    }

    /// What this command has claimed last under the name of a file.
    fn own(&self, wanted: &Wanted) -> Option<&Own> {
        self.claimed.iter().rev().find(|own| is_same(&own.path, &wanted.path))
    }

    /// Whether this command writes the file in another folder: there the lock does not tell.
    fn is_at_work_elsewhere(&self, wanted: &Wanted) -> bool {
        let temporary = temporary_name(&wanted.path, wanted.temporary_in.as_deref());
        self.own(wanted).is_some_and(|own| {
            !is_same(&own.temporary, &temporary) && own.temporary.symlink_metadata().is_ok()
        })
    }

    fn writer(&self, wanted: &Wanted, by: Option<u32>) -> String {
        match (self.own(wanted), by) {
            (Some(own), _) => {
                format!("is the file of `{}` too; choose another name", own.field)
            }
            (None, Some(process)) => format!(
                "process {process} is writing it; wait until it has ended, or choose another name"
            ),
            (None, None) => "another process is writing it; choose another name".into(),
        }
    }

    fn check_what_is_there(
        &self,
        wanted: &Wanted,
        replaces: Replaces,
    ) -> std::result::Result<(), Refusal> {
        let path = &wanted.path;
        let last = |why: String| Err(Refusal::Final(refused(wanted, why)));
        let about = match path.symlink_metadata() {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return last(error.to_string()),
        };
        let Replaces::What(overwrite) = replaces else {
            return Err(Refusal::Taken("is there already".into()));
        };
        if let Some(kind) = kind(path, &about) {
            return last(format!("is {kind}; give the name of an ordinary file"));
        }
        let own = identity(&about);
        if let Some((input, _)) = self.inputs.iter().find(|(_, input)| own == Some(*input)) {
            return last(format!(
                "is an input of this command ({}); choose another name",
                input.display()
            ));
        }
        if overwrite {
            return Ok(());
        }
        if about.permissions().readonly() {
            return last("is there and read-only; choose another name, or --overwrite".into());
        }
        if !(wanted.is_ours)(path) {
            let why = "is there, and this program did not make it; choose another name, or \
                       --overwrite";
            return last(why.into());
        }
        Ok(())
    }

    /// Refuses what does not fit. What fits is reserved, where the file system can do that: nobody
    /// else fills the disk while the work goes on.
    fn take_room(&mut self, wanted: &Wanted, claim: &mut Claim) -> Result<()> {
        let folder = folder_of(&wanted.path);
        let needed = self.needed.saturating_add(wanted.bytes);
        let no_room = |free| {
            let (field, path) = (wanted.field.clone(), wanted.path.clone());
            Err(Error::NoRoom { field, path, folder: folder.into(), needed, free })
        };
        if let Some(free) = free_bytes(folder).filter(|free| *free < needed) {
            return no_room(free);
        }
        match claim.reserve(wanted.bytes) {
            // It is not free any more.
            Ok(true) => {}
            Ok(false) => self.needed = needed,
            Err(_) => return no_room(free_bytes(folder).unwrap_or(0)),
        }
        Ok(())
    }
}

/// What a claim may replace.
#[derive(Clone, Copy)]
enum Replaces {
    Nothing,
    /// A file of ours; where true, any ordinary file.
    What(bool),
}

fn refused(wanted: &Wanted, why: String) -> Error {
    Error::Refused { field: wanted.field.clone(), path: wanted.path.clone(), why }
}

fn is_same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    whole(a).is_some() && whole(a) == whole(b)
}

fn check_name(path: &Path) -> std::result::Result<(), String> {
    if path.file_name().is_none() {
        return Err("is no name of a file".into());
    }
    // The longest name that will be there for a time.
    let temporary = temporary_name(path, None);
    let bytes = temporary.file_name().map_or(0, |name| name.as_encoded_bytes().len());
    let too_many = bytes.saturating_sub(NAME_BYTES_MAX);
    if too_many > 0 {
        return Err(format!(
            "the name is {too_many} bytes too long: with `.` and `.part`, which it has while it is \
             written, {NAME_BYTES_MAX} is the most"
        ));
    }
    Ok(())
}

fn check_folder(path: &Path) -> std::result::Result<(), String> {
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is no folder", folder.display())),
        Err(error) => Err(format!("cannot write to {} ({error})", folder.display())),
    }
}

/// Whether a file can get its name from another folder.
fn check_one_file_system(temporary_in: &Path, path: &Path) -> std::result::Result<(), String> {
    check_folder(&temporary_in.join("file"))?;
    let folder = folder_of(path);
    match is_one_file_system(temporary_in, folder) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "{} is on another file system than {}, where it lies until it is whole; give names on \
             one file system",
            folder.display(),
            temporary_in.display()
        )),
        Err(error) => Err(format!("cannot write to {} ({error})", folder.display())),
    }
}

/// What a name leads to, unless to an ordinary file.
fn kind(path: &Path, about: &fs::Metadata) -> Option<String> {
    let kind = about.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        return Some(format!("a link to {}", target.display()));
    }
    Some(if kind.is_dir() { "a folder".into() } else { "a device or pipe".into() })
}

/// `ball.mp4`, `ball-2.mp4`, `ball-3.mp4`, ... for 1, 2, 3, ... .
pub fn numbered(stem: &str, number: usize, extension: &str) -> String {
    if number <= 1 {
        return format!("{stem}.{extension}");
    }
    format!("{stem}-{number}.{extension}")
}

#[cfg(test)]
mod tests;
