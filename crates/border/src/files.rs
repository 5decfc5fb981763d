//! Files that somebody gives: what they may be, how long, and what a reader of them may do.

mod opened;

use std::any::Any;
use std::cell::Cell;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use opened::OpenFile;

const MIB: u64 = 1 << 20;

/// Longest words of a foreign reader's panic that an error repeats, in characters.
const WORDS_MAX: usize = 200;

/// Result of reading a file.
pub type Result<T> = std::result::Result<T, Error>;

/// What a file holds, by which the most of its bytes is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Settings, configs, indices, lists and jobs: text for people, 4 MiB. UMT5-XXL's index of
    /// shards, the longest known, has 24 kB.
    Settings,
    /// What a run or a measurement wrote: sidecars, calibrations, runs of a comparison; 64 MiB.
    Report,
    /// `tokenizer.json`; 64 MiB. UMT5's has 17.
    Tokenizer,
    /// A picture; 128 MiB.
    Picture,
    /// A clip as a whole; 4 GiB.
    Clip,
    /// The index of a clip (`moov`), or a sample of it; 64 MiB.
    ClipIndex,
}

impl Content {
    /// Most bytes of such a file.
    pub const fn bytes_max(self) -> u64 {
        match self {
            Self::Settings => 4 * MIB,
            Self::Report | Self::Tokenizer | Self::ClipIndex => 64 * MIB,
            Self::Picture => 128 * MIB,
            Self::Clip => 4096 * MIB,
        }
    }

    /// What messages call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Settings => "a settings file",
            Self::Report => "a report",
            Self::Tokenizer => "a tokenizer",
            Self::Picture => "a picture",
            Self::Clip => "a clip",
            Self::ClipIndex => "the index of a clip, or a sample of it,",
        }
    }
}

/// Why a file was not read. The text is one line that begins with the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("{}: is {found}, expected a regular file", path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is longer than such a file can be.
    #[error("{}: more than {limit} bytes, the most that {what} may have", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What it was to be.
        what: &'static str,
        /// Most bytes of it.
        limit: u64,
    },
    /// It was written to between two looks at it.
    #[error("{}: was written to while it was read; give it again once it is whole", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// It is no text in UTF-8.
    #[error("{}: not text in UTF-8, from byte {valid} on", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// Bytes before the first that is none.
        valid: usize,
    },
    /// It is no JSON, or a value in it does not fit.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Field, what was found and what was expected.
        reason: String,
    },
    /// A foreign reader panicked.
    #[error("{}: the {reader} reader failed ({said})", path.display())]
    Reader {
        /// The file.
        path: PathBuf,
        /// Which reader, as `tokenizer`.
        reader: &'static str,
        /// What its panic said.
        said: String,
    },
}

impl Error {
    /// Whether there is nothing of this name. A link that leads nowhere is there.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Io { path, source } => {
                source.kind() == io::ErrorKind::NotFound && !path.is_symlink()
            }
            _ => false,
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { path, source }
}

/// Opens a regular file; gives its length too.
///
/// What is something else is refused by its kind before it is opened: opening a FIFO waits for a
/// writer, and opening a device may do anything. It is looked at once more when it is open.
///
/// # Errors
/// If it is not there, is no regular file, or cannot be opened.
pub fn open(path: &Path) -> Result<(File, u64)> {
    check_kind(path, &fs::metadata(path).map_err(io_error(path))?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // A FIFO that has taken the file's place does not block.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(io_error(path))?;
    let metadata = file.metadata().map_err(io_error(path))?;
    check_kind(path, &metadata)?;
    Ok((file, metadata.len()))
}

fn check_kind(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::NoFile { path: path.into(), found: kind(metadata.file_type()) })
}

fn kind(file: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file.is_fifo() {
            return "a FIFO";
        }
        if file.is_socket() {
            return "a socket";
        }
        if file.is_block_device() || file.is_char_device() {
            return "a device";
        }
    }
    if file.is_dir() { "a folder" } else { "no file" }
}

/// All bytes of a file.
///
/// # Errors
/// As [`open`], and if it is longer than such a file may be.
pub fn bytes(path: &Path, content: Content) -> Result<Vec<u8>> {
    OpenFile::open(path)?.bytes(content)
}

/// The text of a file.
///
/// # Errors
/// As [`bytes`], and if it is no UTF-8.
pub fn text(path: &Path, content: Content) -> Result<String> {
    String::from_utf8(bytes(path, content)?).map_err(|error| Error::NoText {
        path: path.into(),
        valid: error.utf8_error().valid_up_to(),
    })
}

/// The text of a file that need not be there; none where there is nothing of this name.
///
/// # Errors
/// As [`text`], but for absence.
pub fn optional_text(path: &Path, content: Content) -> Result<Option<String>> {
    match text(path, content) {
        Err(error) if error.is_absence() => Ok(None),
        text => text.map(Some),
    }
}

/// A document in JSON.
///
/// # Errors
/// As [`text`], and if it is no JSON, is nested more than 128 deep, or a value does not fit: the
/// error names its field.
pub fn json<T: DeserializeOwned>(path: &Path, content: Content) -> Result<T> {
    parse_json(&text(path, content)?)
        .map_err(|reason| Error::Malformed { path: path.into(), reason })
}

/// What a text in JSON holds; an error names the field.
///
/// # Errors
/// As [`json`], without the path.
pub fn parse_json<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let (field, said) = (error.path().to_string(), error.inner().to_string());
        if field == "." { said } else { format!("{field}: {said}") }
    })?;
    parser.end().map_err(|error| error.to_string())?;
    Ok(value)
}

thread_local! {
    /// Foreign readers that are at work on this thread.
    static AT_WORK: Cell<u32> = const { Cell::new(0) };
}

/// Counts a foreign reader for as long as it is at work.
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        AT_WORK.set(AT_WORK.get() + 1);
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(AT_WORK.get() - 1);
    }
}

/// Whether a panic of this thread would become an error of [`foreign`]. A program's panic hook asks
/// this, so as to print nothing then; the hook is the program's, and nothing here changes it.
pub fn is_foreign_reader_at_work() -> bool {
    AT_WORK.get() > 0
}

/// Runs a foreign reader of `path`; `reader` is what messages call it. Its panic becomes an error.
///
/// # Errors
/// [`Error::Reader`] if it panicked.
pub fn foreign<T>(path: &Path, reader: &'static str, read: impl FnOnce() -> T) -> Result<T> {
    let at_work = AtWork::begin();
    // What it was given is the reader's alone, and is dropped with it.
    let outcome = catch_unwind(AssertUnwindSafe(read));
    drop(at_work);
    outcome.map_err(|payload| Error::Reader {
        path: path.into(),
        reader,
        said: words_of(payload.as_ref()),
    })
}

fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let words = text.unwrap_or("it panicked").split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests;
