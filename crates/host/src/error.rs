//! What can go wrong, and whose turn it is.

use std::path::{Path, PathBuf};

use wan_plugin_api::ErrorKind;

/// Result of the host's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the host. Its text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something the user can change: a flag, a setting, a file.
    #[error("{0}")]
    Invalid(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A strategy failed or refused.
    #[error("{id}: {source}")]
    Strategy {
        /// Its id.
        id: String,
        /// What it said.
        source: wan_plugin_api::Error,
    },
    /// Weights do not fit, or the model failed.
    #[error(transparent)]
    Model(#[from] wan_model::Error),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The video could not be written.
    #[error(transparent)]
    Video(#[from] crate::video::VideoError),
    /// The user stopped the run.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    /// A setting the user can change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// For `map_err` on file operations.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// For `map_err` on calls of a strategy.
    pub fn strategy(id: &str) -> impl FnOnce(wan_plugin_api::Error) -> Self {
        let id = id.to_string();
        move |source| match source.kind {
            ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Strategy { id, source },
        }
    }

    /// 2: the user can mend it; 130: stopped; 1: the work failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tensor(_) => 1,
            Self::Cancelled => 130,
            Self::Strategy { source, .. } if source.kind == ErrorKind::Failed => 1,
            _ => 2,
        }
    }
}
