//! Checkpoints: a text and tensors in one sealed file.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::Disk;
use crate::envelope;
use crate::error::{Error, Result};
use crate::header::{self, HEADER_MAX, Header, TensorView};
use crate::names;
use crate::sealed::{Reading, Sealed, Sealing};

/// What messages and the outer object call the caller's text.
const MEMBER: &str = "checkpoint";

/// A checkpoint in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number.
    pub number: u64,
    /// The caller's JSON, as it was given.
    pub text: String,
    /// In the order in which they were given.
    pub tensors: Vec<Tensor>,
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its number format as safetensors names it.
    pub dtype: String,
    /// Its lengths, outermost first.
    pub shape: Vec<usize>,
    /// Its numbers, little endian: as many as format and shape say.
    pub bytes: Vec<u8>,
}

/// Names of checkpoints that do not count among those to keep: damaged, passed over, or not sure to
/// be on the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubtful(Arc<Mutex<BTreeSet<OsString>>>);

impl Doubtful {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<OsString>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, name: &OsStr) {
        self.with(|names| names.insert(name.into()));
    }

    pub(crate) fn clear(&self, name: &OsStr) {
        self.with(|names| names.remove(name));
    }

    pub(crate) fn has(&self, name: &OsStr) -> bool {
        self.with(|names| names.contains(name))
    }
}

/// A checkpoint on the disk, as far as its name tells.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    number: u64,
    path: PathBuf,
    sha256: String,
    doubtful: Doubtful,
}

impl CheckpointFile {
    pub(crate) fn all(folder: &Path, contents: &names::Contents, doubtful: &Doubtful) -> Vec<Self> {
        let files = contents.checkpoints.iter().map(|(number, name, sha256)| Self {
            number: *number,
            path: folder.join(name),
            sha256: sha256.clone(),
            doubtful: doubtful.clone(),
        });
        files.collect()
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it. The hash is computed while it is read and compared at the end. Memory is taken
    /// only for what the file has.
    ///
    /// # Errors
    /// [`Error::Damaged`] if any byte differs from those written (the writer does not count the
    /// file among the last two any more), [`Error::Newer`], [`Error::Io`].
    pub fn read(&self) -> Result<Checkpoint> {
        self.examined(true)
    }

    /// Reads all of it without keeping the tensors, and gives the caller's text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn verify(&self) -> Result<String> {
        self.examined(false).map(|checkpoint| checkpoint.text)
    }

    /// The caller's text, from the header alone: for a look. The hash is not compared.
    ///
    /// # Errors
    /// As [`read`](Self::read), as far as the header shows it.
    pub fn text(&self) -> Result<String> {
        let mut reading = Reading::open(&self.path)?;
        let header = self.header(&mut reading)?;
        self.text_of(&header)
    }

    fn examined(&self, keep: bool) -> Result<Checkpoint> {
        let checkpoint = self.whole(keep);
        if let (Err(Error::Damaged { .. }), Some(name)) = (&checkpoint, self.path.file_name()) {
            self.doubtful.add(name);
        }
        checkpoint
    }

    fn whole(&self, keep: bool) -> Result<Checkpoint> {
        let mut reading = Reading::open(&self.path)?;
        let contents = self.contents(&mut reading, keep);
        // A changed byte may say that a newer version wrote it: the hash has the first word.
        if !matches!(contents, Err(Error::Io { .. })) {
            reading.finish(&self.sha256)?;
        }
        contents
    }

    fn contents(&self, reading: &mut Reading, keep: bool) -> Result<Checkpoint> {
        let header = self.header(reading)?;
        let text = self.text_of(&header)?;
        if !keep {
            return Ok(Checkpoint { number: self.number, text, tensors: Vec::new() });
        }
        let mut bytes = vec![Vec::new(); header.entries.len()];
        for index in header.order() {
            let entry = &header.entries[index];
            bytes[index] = reading.take(entry.end - entry.start)?;
        }
        let tensors = header.entries.into_iter().zip(bytes).map(|(entry, bytes)| Tensor {
            name: entry.name,
            dtype: entry.dtype,
            shape: entry.shape,
            bytes,
        });
        Ok(Checkpoint { number: self.number, text, tensors: tensors.collect() })
    }

    fn header(&self, reading: &mut Reading) -> Result<Header> {
        let damaged = |why: String| Error::damaged(&self.path, why);
        let length = reading.take(8)?;
        let length = u64::from_le_bytes(length.try_into().expect("eight were taken"));
        if length > HEADER_MAX {
            return Err(damaged(format!("a header of {length} bytes, at most {HEADER_MAX} fit")));
        }
        let header = reading.take(length)?;
        Header::parse(&header, reading.left()).map_err(damaged)
    }

    fn text_of(&self, header: &Header) -> Result<String> {
        let text = envelope::unwrap(&self.path, MEMBER, Some(self.number), &header.text)?;
        Ok(text.to_string())
    }
}

/// Writes a checkpoint; tensors go from where they lie to the disk.
pub(crate) fn write(
    disk: &Disk,
    folder: &Path,
    number: u64,
    text: &str,
    tensors: &[TensorView<'_>],
) -> Result<Sealed> {
    let refused = |why| Error::refused(folder, why);
    let text = envelope::wrap(MEMBER, Some(number), text).map_err(refused)?;
    let (header, order) = header::write(&text, tensors).map_err(refused)?;
    let mut sealing = Sealing::begin(disk, folder, &names::checkpoint_part(number))?;
    sealing.write(&header)?;
    for index in order {
        sealing.write(tensors[index].bytes)?;
    }
    sealing.seal(|sha256| names::checkpoint(number, sha256))
}
