//! The errors of this crate. Each text is one line that begins with the path.

use std::io;
use std::path::PathBuf;

use wan_border::files;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a weight file was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened, or is no regular file.
    #[error(transparent)]
    File(#[from] files::Error),
    /// An open file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// It is cut short, contradicts itself, or is in a format that is not read.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, and what to do.
        reason: String,
    },
    /// It was changed after what describes its tensors had been read.
    #[error(
        "{}: changed since its header was read ({difference}); open the model again", path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it was then, and what it is now.
        difference: String,
    },
}
