//! The one error that crosses the plugin door.

use std::fmt;

/// Result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in a form that survives the trip between two libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is, and so what the host does about it.
    pub kind: ErrorKind,
    /// One line: the facts, expected against found, and what to do.
    pub message: String,
}

/// Who can mend an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorKind {
    /// A setting the user can change; the host exits with code 2.
    Invalid = 1,
    /// The other side does not have this id, operation or extension.
    Unsupported = 2,
    /// The user stopped the run. Pass it on unchanged.
    Cancelled = 3,
    /// The work itself failed.
    Failed = 4,
    /// The plugin panicked; the guard at the door caught it.
    Panicked = 5,
}

impl Error {
    /// A setting the user can change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into() }
    }

    /// An id, operation or extension that this side does not have.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unsupported, message: message.into() }
    }

    /// The run was stopped.
    pub fn cancelled() -> Self {
        Self { kind: ErrorKind::Cancelled, message: "cancelled".into() }
    }

    /// The work itself failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, message: message.into() }
    }

    pub(crate) fn panicked(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Panicked, message: message.into() }
    }
}

impl ErrorKind {
    /// The kind with this number; an unknown number (a later epoch's) reads as `Failed`.
    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Invalid,
            2 => Self::Unsupported,
            3 => Self::Cancelled,
            5 => Self::Panicked,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
