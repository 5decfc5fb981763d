//! What can go wrong, and whose turn it is.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use wan_border::files;
use wan_plugin_api::ErrorKind;

/// Result of the host's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the host. Its text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something the caller can change: a file, a combination of settings. Fields of a
    /// [`Request`](crate::Request) are in backticks.
    #[error("{0}")]
    Invalid(String),
    /// A field of a [`Request`](crate::Request) that does not fit.
    #[error("{message}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value, what was expected, and what would fit. Fields are in backticks.
        message: String,
    },
    /// A file that was given cannot be read.
    #[error(transparent)]
    File(#[from] files::Error),
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
    Model(wan_model::Error),
    /// The model gave numbers that are not finite.
    #[error("{0}")]
    NotFinite(String),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(candle_core::Error),
    /// The device has no room for a tensor.
    #[error(
        "the device has no memory left ({0}); take a smaller size or fewer frames, bf16, or a \
         cache that keeps less"
    )]
    DeviceMemory(String),
    /// A video or picture could not be written or read.
    #[error(transparent)]
    Video(#[from] wan_media::Error),
    /// A file must not, or cannot, be written.
    #[error(transparent)]
    Output(#[from] wan_outputs::Error),
    /// A transformer that is needed has no room beside those that are lent; ask again later.
    #[error("another run has the transformer that has to go first; try again once it has ended")]
    Busy,
    /// The user stopped the run.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    /// Something the caller can change.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A field of a request that does not fit; `why`, its value and what would fit, comes after its
    /// name.
    pub fn field(field: &'static str, why: impl Display) -> Self {
        Self::Field { field, message: format!("`{field}` {why}") }
    }

    /// As [`field`](Self::field), with a message that names the field where it likes.
    pub fn about(field: &'static str, message: impl Into<String>) -> Self {
        Self::Field { field, message: message.into() }
    }

    /// A file, or other text, that a parser does not understand.
    pub fn malformed(what: impl Display, parser: impl Display) -> Self {
        // Backticks are for fields of a request.
        let said = parser.to_string().trim().replace('`', "'");
        Self::Invalid(format!("{what}: {said}"))
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
            // It hands on what the host's operations said.
            ErrorKind::Failed if is_out_of_memory(&source.message) => {
                Self::DeviceMemory(source.message)
            }
            _ => Self::Strategy { id, source },
        }
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        match self {
            Self::Invalid(_) | Self::Field { .. } | Self::File(_) => Turn::Caller,
            Self::Output(wan_outputs::Error::Refused { .. }) => Turn::Caller,
            Self::Video(error) if error.is_of_what_was_given() => Turn::Caller,
            Self::Io { .. } | Self::Video(_) | Self::Output(_) => Turn::Disk,
            Self::Strategy { source, .. } if source.kind == ErrorKind::Failed => Turn::Strategy,
            // It refuses what it was given.
            Self::Strategy { .. } => Turn::Caller,
            Self::Model(_) | Self::NotFinite(_) => Turn::ModelFiles,
            Self::DeviceMemory(_) => Turn::DeviceMemory,
            Self::Busy => Turn::Later,
            Self::Cancelled => Turn::Nobody,
            Self::Tensor(_) => Turn::Bug,
        }
    }
}

/// Whose turn it is after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Whoever made the request: it does not fit.
    Caller,
    /// Whoever has the model's files: they are missing, damaged or of another model.
    ModelFiles,
    /// The strategy's author.
    Strategy,
    /// Whoever can make room on the device, or ask for less.
    DeviceMemory,
    /// Whoever has the disk: a file cannot be read or written.
    Disk,
    /// The caller again, once another run has ended.
    Later,
    /// Nobody: it was stopped.
    Nobody,
    /// Ours.
    Bug,
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        if is_out_of_memory(&text) { Self::DeviceMemory(text) } else { Self::Tensor(error) }
    }
}

impl From<wan_model::Error> for Error {
    fn from(error: wan_model::Error) -> Self {
        // `Cancel` alone ends a forward pass.
        if matches!(error, wan_model::Error::Stopped) {
            return Self::Cancelled;
        }
        let text = error.to_string();
        if is_out_of_memory(&text) { Self::DeviceMemory(text) } else { Self::Model(error) }
    }
}

/// Whether an error of CUDA is that of an allocation. candle 0.11 hands it on as text: cudarc's
/// `DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")`.
fn is_out_of_memory(text: &str) -> bool {
    text.contains("CUDA_ERROR_OUT_OF_MEMORY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_nobodys_fault() {
        let text = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let candle = || candle_core::Error::Msg(text.into());
        let handed_on = wan_plugin_api::Error::failed(candle().to_string());
        for error in [
            Error::from(candle()),
            Error::from(wan_model::Error::from(candle())),
            Error::strategy("a-sampler")(handed_on),
        ] {
            assert!(matches!(error, Error::DeviceMemory(_)), "{error:?}");
            assert_eq!(error.turn(), Turn::DeviceMemory);
            let text = error.to_string();
            assert!(text.starts_with("the device has no memory left"), "{text}");
        }
        let other = Error::strategy("a-sampler")(wan_plugin_api::Error::failed("no frames"));
        assert_eq!(other.to_string(), "a-sampler: no frames");
    }
}
