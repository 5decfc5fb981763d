//! Embeddings of prompts that are kept on the disk, so that the text encoder, the largest part after
//! the transformers, is not loaded for a prompt that was encoded before.
//!
//! A file is named by its [key](super::prompt_key), and is whole or not taken. What fails here fails
//! nothing: the prompt is encoded then, and a notice says so. What was used last stays longest.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use candle_core::Tensor;
use wan_border::files;
use wan_outputs::{Claim, Claimed, Lock, is_named, lock};

use super::prompt_file;
use super::prompt_key::PromptKey;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::optional_file::paths_in;
use crate::user_folders::{user_caches, variable};

/// Variable of the environment that names another folder than the user's.
const FOLDER_VARIABLE: &str = "WAN_PROMPT_CACHE";

/// Smallest text encoder whose embeddings the user's folder keeps, in bytes of its files: a smaller
/// one is loaded in no time.
const ENCODER_BYTES_MIN: u64 = 64 << 20;

/// Most files.
const FILES_MAX: usize = 256;

/// Most bytes of them.
const BYTES_MAX: u64 = 2 << 30;

/// End of a file's name.
const EXTENSION: &str = "prompt";

/// End of the name of a file that is being written.
const UNFINISHED: &str = "part";

/// Where embeddings of prompts are kept, if anywhere. Clones are one and the same; any number of
/// processes share a folder.
#[derive(Debug, Clone, Default)]
pub struct PromptCache(Option<Arc<Store>>);

#[derive(Debug)]
struct Store {
    folder: PathBuf,
    /// Bytes of the smallest text encoder whose embeddings are kept.
    encoder_bytes_min: u64,
    files_max: usize,
    bytes_max: u64,
    notices: Mutex<Notices>,
}

/// What went wrong, each once.
#[derive(Debug, Default)]
struct Notices {
    said: BTreeSet<String>,
    waiting: Vec<String>,
}

impl PromptCache {
    /// Nothing is kept: what an [`Engine`](crate::Engine) has unless it is told otherwise.
    pub fn none() -> Self {
        Self::default()
    }

    /// In this folder, which is made when the first embedding is kept. At most 256 files and 2 GiB
    /// stay in it, those that were used last; it may hold other files too. It tells nobody a prompt,
    /// but the numbers are made of one: what is made here is the user's alone to read (on Unix).
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self::with(folder.into(), 0)
    }

    /// In the folder that `WAN_PROMPT_CACHE` names, else, for text encoders of 64 MiB and more, in
    /// `wan/prompts` of the user's folder of caches: `$XDG_CACHE_HOME` or `~/.cache`,
    /// `~/Library/Caches`, `%LOCALAPPDATA%`. Where nobody knows that folder, nothing is kept.
    pub fn of_user() -> Self {
        if let Some(named) = variable(FOLDER_VARIABLE) {
            return Self::at(named);
        }
        let folder = user_caches().map(|caches| caches.join("wan").join("prompts"));
        folder.map_or_else(Self::none, |folder| Self::with(folder, ENCODER_BYTES_MIN))
    }

    fn with(folder: PathBuf, encoder_bytes_min: u64) -> Self {
        Self(Some(Arc::new(Store {
            folder,
            encoder_bytes_min,
            files_max: FILES_MAX,
            bytes_max: BYTES_MAX,
            notices: Mutex::default(),
        })))
    }

    /// The folder, if embeddings are kept.
    pub fn folder(&self) -> Option<&Path> {
        self.0.as_ref().map(|store| store.folder.as_path())
    }

    /// Whether embeddings of this model are kept.
    ///
    /// # Errors
    /// If a header of the text encoder cannot be read.
    pub fn keeps(&self, checkpoint: &Checkpoint) -> Result<bool> {
        let Some(store) = self.0.as_ref().filter(|_| checkpoint.has("text_encoder")) else {
            return Ok(false);
        };
        let files = checkpoint.weights("text_encoder")?.files().iter();
        Ok(files.map(|file| file.length()).sum::<u64>() >= store.encoder_bytes_min)
    }

    /// What went wrong since the last call; each thing is said once.
    pub fn take_notices(&self) -> Vec<String> {
        let Some(store) = &self.0 else { return Vec::new() };
        let mut notices = store.notices.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notices.waiting)
    }

    /// The embedding of this key, in main memory, if a whole one of this shape is there.
    pub(super) fn find(&self, key: &PromptKey, shape: &[usize; 3]) -> Option<Tensor> {
        let store = self.0.as_ref()?;
        let path = store.path(key);
        match store.read(&path, key, shape) {
            Ok(found) => found,
            Err(why) => {
                store.note(format!("{}: {why}; the prompt is encoded again", path.display()));
                None
            }
        }
    }

    /// Keeps an embedding `[1, T, text_dim]`.
    pub(super) fn keep(&self, key: &PromptKey, embeds: &Tensor) {
        let Some(store) = &self.0 else { return };
        if let Err(error) = store.write(key, embeds) {
            store.note(format!("the prompt's embedding is not kept: {error}"));
        }
    }
}

impl Store {
    fn path(&self, key: &PromptKey) -> PathBuf {
        self.folder.join(key.digits()).with_extension(EXTENSION)
    }

    fn note(&self, notice: impl Display) {
        let notice = notice.to_string();
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.said.insert(notice.clone()) {
            notices.waiting.push(notice);
        }
    }

    fn read(
        &self,
        path: &Path,
        key: &PromptKey,
        shape: &[usize; 3],
    ) -> std::result::Result<Option<Tensor>, String> {
        let (file, length) = match files::open(path) {
            Err(error) if is_absent(&error) => return Ok(None),
            opened => opened.map_err(|error| without(path, &error))?,
        };
        let most = prompt_file::bytes_max(shape);
        if length > most {
            return Err(format!("{length} bytes, an embedding has at most {most}"));
        }
        let mut bytes = Vec::new();
        (&file).take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let found = prompt_file::read(&bytes, key, shape)?;
        // By this it is known when it was used; in a folder that cannot be changed nothing goes.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(found))
    }

    fn write(&self, key: &PromptKey, embeds: &Tensor) -> Result<()> {
        let (bytes, path) = (prompt_file::written(key, embeds)?, self.path(key));
        private_folder(&self.folder).map_err(Error::io(&self.folder))?;
        match Claim::private(&path).map_err(Error::io(&path))? {
            Claimed::Ours { claim, .. } => drop(claim.write(&bytes)?),
            // Of the same key: it writes the same bytes.
            Claimed::Taken { .. } => {}
        }
        self.make_room().map_err(Error::io(&self.folder))
    }

    /// Removes what was used longest ago, as far as there is too much, and what processes that have
    /// ended left unfinished.
    fn make_room(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for path in paths_in(&self.folder)? {
            if is_unfinished(&path) {
                remove_if_left(&path)?;
            } else if is_embedding(&path) {
                match path.symlink_metadata() {
                    // Another process was faster.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    about => {
                        let about = about?;
                        kept.push((about.modified()?, about.len(), path));
                    }
                }
            }
        }
        kept.sort();
        let (mut files, mut bytes) = (kept.len(), kept.iter().map(|kept| kept.1).sum::<u64>());
        for (_, length, path) in kept {
            if files <= self.files_max && bytes <= self.bytes_max {
                break;
            }
            remove(&path)?;
            files -= 1;
            bytes -= length;
        }
        Ok(())
    }
}

/// Whether there is no such file, or no such folder: whoever keeps an embedding says that.
fn is_absent(error: &files::Error) -> bool {
    let kind = match error {
        files::Error::Io { source, .. } => Some(source.kind()),
        _ => None,
    };
    error.is_absence() || kind == Some(ErrorKind::NotADirectory)
}

/// What is wrong with a file, without its path in front.
fn without(path: &Path, error: &files::Error) -> String {
    let said = error.to_string();
    let path = format!("{}: ", path.display());
    said.strip_prefix(path.as_str()).unwrap_or(&said).to_owned()
}

/// Makes a folder, and those above it, for the user alone. One that is there stays as it is.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Whether this is the name of an embedding: a key, and the end.
fn is_embedding(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_key = stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key && path.extension().is_some_and(|end| end == EXTENSION)
}

/// Whether this is the name of an embedding that is being written.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let inner = name.strip_prefix('.').map(Path::new);
    inner.is_some_and(is_embedding) && path.extension().is_some_and(|end| end == UNFINISHED)
}

/// Removes an unfinished file that no process writes to.
fn remove_if_left(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata().is_ok_and(|about| about.is_file()) {
        return Ok(());
    }
    let Ok(file) = File::options().write(true).open(path) else { return Ok(()) };
    // While the lock is held: afterwards it may be another's.
    if lock(&file) == Lock::Held && is_named(path, &file) { remove(path) } else { Ok(()) }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
