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
    Model(wan_model::Error),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(candle_core::Error),
    /// The device has no room for a tensor.
    #[error(
        "the device has no memory left ({0}); take a smaller size or fewer frames, bf16, or a cache \
         that keeps less"
    )]
    DeviceMemory(String),
    /// A video or picture could not be written or read.
    #[error(transparent)]
    Video(#[from] wan_media::Error),
    /// A transformer that is needed has no room beside those that are lent; ask again later.
    #[error("another run has the transformer that has to go first; try again once it has ended")]
    Busy,
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
            // It hands on what the host's operations said.
            ErrorKind::Failed if is_out_of_memory(&source.message) => {
                Self::DeviceMemory(source.message)
            }
            _ => Self::Strategy { id, source },
        }
    }

    /// 2: the user can mend it; 130: stopped; 1: the work failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tensor(_) | Self::DeviceMemory(_) => 1,
            Self::Cancelled => 130,
            Self::Strategy { source, .. } if source.kind == ErrorKind::Failed => 1,
            _ => 2,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        if is_out_of_memory(&text) { Self::DeviceMemory(text) } else { Self::Tensor(error) }
    }
}

impl From<wan_model::Error> for Error {
    fn from(error: wan_model::Error) -> Self {
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
            assert_eq!(error.exit_code(), 1);
            let text = error.to_string();
            assert!(text.starts_with("the device has no memory left"), "{text}");
        }
        let other = Error::strategy("a-sampler")(wan_plugin_api::Error::failed("no frames"));
        assert_eq!(other.to_string(), "a-sampler: no frames");
    }
}
