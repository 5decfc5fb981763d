//! The error type of the plugin interface.

use std::fmt;

/// Result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that can be passed between two libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Who can act on it; the host decides by it.
    pub kind: ErrorKind,
    /// One line: the facts, expected and found, and what to do.
    pub message: String,
}

/// Who can act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorKind {
    /// A setting the user can change; the host exits with code 2.
    Invalid = 1,
    /// The other side does not have this id, operation or extension.
    Unsupported = 2,
    /// The user stopped the run. Pass it on unchanged.
    Cancelled = 3,
    /// The operation failed.
    Failed = 4,
    /// The plugin panicked; the interface caught the panic.
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

    /// The operation failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, message: message.into() }
    }

    pub(crate) fn panicked(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Panicked, message: message.into() }
    }
}

impl ErrorKind {
    /// The kind with this number; `Failed` for a number of a later epoch.
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
