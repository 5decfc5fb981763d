//! The folder of a run, opened to work on it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wan_outputs::folder_of;

use crate::checkpoint::{self, Checkpoint, CheckpointFile, Doubtful};
use crate::disk::{Disk, Written};
use crate::envelope;
use crate::error::{Error, Result};
use crate::growing::{self, Growing, Mark};
use crate::header::TensorView;
use crate::held::{self, Held};
use crate::journal::{Journal, JournalReader};
use crate::names::{self, Contents};
use crate::remove::{clear, clear_parts, look, remove_held};
use crate::sealed::{Reading, Sealing, length};
use crate::session::{Lease, Session};

/// Longest recipe, in bytes.
const RECIPE_MAX: u64 = 64 << 20;

/// How often a folder may go while it is taken over.
const TRIES: usize = 100;

/// What messages and the outer object call the caller's text.
const MEMBER: &str = "recipe";

/// The folder of an unfinished run, which this process alone works on until this and all its
/// growing files are dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    recipe: String,
    disk: Disk,
    doubtful: Doubtful,
    session: Arc<Session>,
}

/// The newest checkpoint that is whole.
#[derive(Debug)]
pub struct Newest {
    /// It, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// Why newer ones were passed over: [`Error::Damaged`], newest first.
    pub damaged: Vec<Error>,
}

impl RunFolder {
    /// Makes the folder of a new run. `recipe` is a JSON text that says what the run is. The folder
    /// around it has to be there. What a process left that ended before its folder had a recipe, or
    /// while it removed it, is taken over.
    ///
    /// # Errors
    /// [`Error::Exists`] if an unfinished run is there, [`Error::InUse`] if it is being worked on,
    /// [`Error::Damaged`] if it is one that has lost its recipe, [`Error::Foreign`] if something
    /// else is there, [`Error::Refused`] if `recipe` is no JSON or longer than 64 MiB,
    /// [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, recipe: &str) -> Result<Self> {
        Self::create_on(Disk::default(), path.as_ref(), recipe)
    }

    pub(crate) fn create_on(disk: Disk, path: &Path, recipe: &str) -> Result<Self> {
        let whole = envelope::wrap(MEMBER, None, recipe).map_err(|e| Error::refused(path, e))?;
        if length(whole.as_bytes()) > RECIPE_MAX {
            let why = format!("a recipe of {} bytes, at most {RECIPE_MAX} fit", whole.len());
            return Err(Error::refused(path, why));
        }
        let mut held = claim(&disk, path, &whole);
        for _ in 0..TRIES {
            // It went while it was looked at: another process has removed its run.
            if matches!(held, Err(Error::NoRun { .. })) {
                held = claim(&disk, path, &whole);
            }
        }
        Ok(Self::at(disk, path, recipe.into(), held?))
    }

    /// Opens the folder of an unfinished run to go on with it, and removes what ended writers left
    /// of files that they were at: `*.part`, but for a claim of `wan-outputs` that somebody holds.
    ///
    /// # Errors
    /// [`Error::NoRun`], [`Error::InUse`]; [`Error::Damaged`] or [`Error::Newer`] of the recipe;
    /// [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Disk::default(), path.as_ref())
    }

    pub(crate) fn open_on(disk: Disk, path: &Path) -> Result<Self> {
        // Nothing is written to a folder that is no run's.
        the_recipe(path, &look(path)?)?;
        let held = Held::take(&disk, path)?;
        let contents = look(path)?;
        let recipe = read_recipe(path, &contents)?;
        clear_parts(&disk, path, &contents)?;
        Ok(Self::at(disk, path, recipe, held))
    }

    fn at(disk: Disk, path: &Path, recipe: String, held: Held) -> Self {
        let (path, doubtful, session) = (path.into(), Doubtful::default(), Session::new(held));
        Self { path, recipe, disk, doubtful, session }
    }

    /// What the run is: the JSON that was given.
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file system has no locks, so that two processes could work on the run.
    pub fn is_without_lock(&self) -> bool {
        self.session.held.is_without_lock()
    }

    /// All that was written by this handle and its growing files.
    pub fn written(&self) -> Written {
        self.disk.written()
    }

    /// Writes a checkpoint; when this returns it is on the disk. `text` is JSON. The tensors go
    /// from where they lie to the disk. Then checkpoints are removed, but for the one before it
    /// that is not known to be damaged; those of the same number or a later one are of a way that
    /// the run has left.
    ///
    /// # Errors
    /// [`Error::Refused`] if `text` is no JSON, or a tensor's name, format, shape and bytes do not
    /// fit; [`Error::Io`]. The earlier checkpoints are as they were then, and another can be
    /// written.
    pub fn write_checkpoint(
        &mut self,
        number: u64,
        text: &str,
        tensors: &[TensorView<'_>],
    ) -> Result<Written> {
        let sealed = checkpoint::write(&self.disk, &self.path, number, text, tensors)?;
        let name = OsStr::new(&sealed.name);
        match sealed.durable {
            Ok(written) => {
                self.doubtful.clear(name);
                // What cannot be removed now, the next checkpoint removes.
                let _ = self.remove_old(number, name);
                Ok(written)
            }
            Err(error) => {
                if sealed.is_new {
                    self.doubtful.add(name);
                    let _ = self.disk.remove(&self.path.join(name));
                }
                Err(error)
            }
        }
    }

    fn remove_old(&self, number: u64, name: &OsStr) -> io::Result<()> {
        let contents = Contents::of(&self.path)?;
        let others = contents.checkpoints.iter().filter(|(_, other, _)| other != name);
        let is_before = |(other, name, _): &&_| {
            *other < number && !self.doubtful.has(OsString::as_os_str(name))
        };
        let before = others.clone().find(is_before).map(|(_, name, _)| name);
        for (_, other, _) in others.filter(|(_, other, _)| Some(other) != before) {
            self.disk.remove(&self.path.join(other))?;
        }
        Ok(())
    }

    /// The checkpoints, newest first, by their names alone.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointFile>> {
        Ok(CheckpointFile::all(&self.path, &look(&self.path)?, &self.doubtful))
    }

    /// Reads the newest checkpoint that is whole.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Io`].
    pub fn newest(&self) -> Result<Newest> {
        let mut damaged = Vec::new();
        for file in self.checkpoints()? {
            match file.read() {
                Ok(checkpoint) => return Ok(Newest { checkpoint: Some(checkpoint), damaged }),
                Err(error @ Error::Damaged { .. }) => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(Newest { checkpoint: None, damaged })
    }

    /// Says that the run cannot go on from the checkpoint of this number: as where a growing file
    /// is damaged before the mark that it refers to. It does not count among the last two any more,
    /// and is removed when the next one is written.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed.
    pub fn pass_over(&mut self, number: u64) -> Result<()> {
        let contents = look(&self.path)?;
        let of_it = contents.checkpoints.iter().filter(|(other, ..)| *other == number);
        of_it.for_each(|(_, name, _)| self.doubtful.add(name));
        Ok(())
    }

    /// Where a growing file of this name lies, or would.
    ///
    /// # Errors
    /// [`Error::Refused`] if none can have this name.
    pub fn path_of(&self, name: &str) -> Result<PathBuf> {
        growing::path_of(&self.path, name)
    }

    /// Begins a growing file. `name` is of letters, digits, `.`, `_` and `-`. One of this name that
    /// is there is begun anew: what no checkpoint refers to an ended writer left.
    ///
    /// # Errors
    /// [`Error::Refused`] for a name, [`Error::Open`] if it is open, [`Error::Io`].
    pub fn begin(&self, name: &str) -> Result<Growing> {
        let path = self.path_of(name)?;
        let lease = Lease::of(&self.session, name, &path)?;
        Growing::begin(&self.disk, &self.path, &path, lease)
    }

    /// Goes on with a growing file: what lies before the mark is read and compared, what lies
    /// behind it is cut off.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not there or what lies before the mark is not what was written;
    /// and as [`begin`](Self::begin).
    pub fn go_on(&self, name: &str, mark: &Mark) -> Result<Growing> {
        let path = self.path_of(name)?;
        let lease = Lease::of(&self.session, name, &path)?;
        Growing::go_on(&self.disk, &path, mark, lease)
    }

    /// Begins a journal, as [`begin`](Self::begin).
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_journal(&self, name: &str) -> Result<Journal> {
        self.begin(name).map(Journal::of)
    }

    /// Goes on with a journal, as [`go_on`](Self::go_on).
    ///
    /// # Errors
    /// As [`go_on`](Self::go_on).
    pub fn go_on_journal(&self, name: &str, mark: &Mark) -> Result<Journal> {
        self.go_on(name, mark).map(Journal::of)
    }

    /// Reads the parts of a journal before a mark, while it grows too.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not there, or shorter than the mark says; [`Error::Refused`] for
    /// a name; [`Error::Io`]. Damage within is found where it is read.
    pub fn read_journal(&self, name: &str, mark: &Mark) -> Result<JournalReader> {
        JournalReader::open(&self.path_of(name)?, mark)
    }

    /// Removes the files that this crate made, and the folder. Gives what is left because others
    /// made it, or hold it; then the folder stays.
    ///
    /// # Errors
    /// [`Error::Open`] if a growing file is open; [`Error::Io`]. What is left is no run in that
    /// case or still a whole one, and [`remove`](crate::remove()) ends it.
    pub fn remove(self) -> Result<Vec<PathBuf>> {
        let Self { path, disk, session, .. } = self;
        if let Some(name) = session.one_open() {
            return Err(Error::Open { file: growing::path_of(&path, &name)? });
        }
        let Some(session) = Arc::into_inner(session) else {
            return Err(Error::Open { file: path });
        };
        remove_held(&disk, &path, session.held)
    }
}

/// Makes a folder that of a new run, and locks it. What fails leaves nothing.
fn claim(disk: &Disk, path: &Path, whole: &str) -> Result<Held> {
    let is_made = match disk.make_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_free(path)?;
            false
        }
        result => result.map(|()| true).map_err(Error::io(path, "make it"))?,
    };
    let undo = |error| {
        if is_made {
            let _ = disk.remove_folder(path);
        }
        error
    };
    let held = Held::take(disk, path).map_err(undo)?;
    match begin(disk, path, whole) {
        Ok(()) => Ok(held),
        Err(error) => {
            let _ = held.remove(disk);
            Err(undo(error))
        }
    }
}

/// Whether a folder that is there can become that of a new run.
fn check_free(path: &Path) -> Result<()> {
    let contents = match look(path) {
        Err(Error::NoRun { .. }) if path.symlink_metadata().is_ok() => {
            return Err(Error::Foreign { path: path.into(), file: path.into() });
        }
        contents => contents?,
    };
    let is_run = !contents.is_never_begun();
    if is_run && let Some(worker) = held::look(path).map_err(Error::io(path, "look at its lock"))? {
        return Err(Error::InUse { path: path.into(), by: worker.process });
    }
    check_contents(path, &contents)
}

fn check_contents(path: &Path, contents: &Contents) -> Result<()> {
    if !contents.recipes.is_empty() {
        return Err(Error::Exists { path: path.into() });
    }
    if !contents.is_never_begun() {
        return Err(Error::damaged(path, "an unfinished run without its recipe; remove it first"));
    }
    match contents.foreign.first() {
        Some(file) => Err(Error::Foreign { path: path.into(), file: file.into() }),
        None => Ok(()),
    }
}

/// Makes a locked folder that of a new run.
fn begin(disk: &Disk, path: &Path, whole: &str) -> Result<()> {
    let contents = look(path)?;
    check_contents(path, &contents)?;
    clear(disk, path, &contents)?;
    let mut sealing = Sealing::begin(disk, path, names::RECIPE_PART)?;
    sealing.write(whole.as_bytes())?;
    let sealed = sealing.seal(names::recipe)?;
    let parent = folder_of(path);
    let named = sealed
        .durable
        .and_then(|_| disk.flush_folder(parent).map_err(Error::io(parent, "flush it to the disk")));
    named.inspect_err(|_| {
        let _ = disk.remove(&path.join(&sealed.name));
    })
}

/// Name and hash of the recipe of a run.
fn the_recipe<'a>(path: &Path, contents: &'a Contents) -> Result<&'a (OsString, String)> {
    match &contents.recipes[..] {
        [recipe] => Ok(recipe),
        [] if contents.is_being_removed() => {
            Err(Error::NoRun { path: path.into(), why: "its removal has begun" })
        }
        [] if contents.is_never_begun() => {
            Err(Error::NoRun { path: path.into(), why: "it has no recipe: it was never begun" })
        }
        [] => Err(Error::damaged(path, "its recipe is missing")),
        more => Err(Error::damaged(path, format!("it has {} recipes, expected one", more.len()))),
    }
}

/// The caller's text of the recipe.
pub(crate) fn read_recipe(path: &Path, contents: &Contents) -> Result<String> {
    let (name, sha256) = the_recipe(path, contents)?;
    let file = path.join(name);
    let mut reading = Reading::open(&file)?;
    let bytes = reading.left();
    if bytes > RECIPE_MAX {
        return Err(Error::damaged(&file, format!("{bytes} bytes, at most {RECIPE_MAX} fit")));
    }
    let whole = reading.take(bytes)?;
    reading.finish(sha256)?;
    let whole = String::from_utf8(whole).map_err(|e| Error::damaged(&file, e.to_string()))?;
    Ok(envelope::unwrap(&file, MEMBER, None, &whole)?.to_string())
}
