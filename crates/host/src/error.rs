//! What can go wrong, and whose turn it is.

use std::fmt::Display;
use std::io;
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
    /// A plugin library cannot be used: one line that names the file, and what to do.
    #[error("{0}")]
    Library(String),
    /// A strategy failed or refused.
    #[error("{id}: {source}")]
    Strategy {
        /// Its id.
        id: String,
        /// What it said.
        source: wan_plugin_api::Error,
    },
    /// A file of the model is there and cannot be used: one line that names it.
    #[error("{0}")]
    ModelFile(String),
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
    /// Main memory has no room for a phase of the run, by what is known before it begins.
    #[error("{0}")]
    HostMemory(String),
    /// A video or picture could not be written or read.
    #[error(transparent)]
    Video(#[from] wan_media::Error),
    /// A file must not, or cannot, be written.
    #[error(transparent)]
    Output(#[from] wan_outputs::Error),
    /// The folder of an unfinished run cannot be used.
    #[error(transparent)]
    Kept(#[from] wan_run_store::Error),
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

    /// A file of the model that is there and cannot be used.
    pub fn model_file(message: impl Into<String>) -> Self {
        Self::ModelFile(message.into())
    }

    /// A plugin library that cannot be used.
    pub fn library(place: impl Display, why: impl Display) -> Self {
        Self::Library(format!("{place}: {why}"))
    }

    /// For `map_err` on calls of a strategy.
    pub fn strategy(id: &str) -> impl FnOnce(wan_plugin_api::Error) -> Self {
        let id = id.to_string();
        move |source| match source.kind {
            // Where somebody has stopped it, whoever calls the strategy knows.
            ErrorKind::Cancelled => {
                let why = "says that the run was stopped, which nobody has done";
                Self::Strategy { id, source: wan_plugin_api::Error::failed(why) }
            }
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
            Self::Invalid(_) | Self::Field { .. } => Turn::Caller,
            Self::Io { source, .. } => turn_of_io(source),
            Self::File(error) => turn_of_file(error),
            Self::Video(error) => turn_of_media(error),
            Self::Output(error) => turn_of_output(error),
            Self::Kept(error) => turn_of_kept(error),
            Self::Model(error) => turn_of_model(error),
            // It refuses what it was given.
            Self::Strategy { source, .. } if source.kind == ErrorKind::Invalid => Turn::Caller,
            Self::Library(_) | Self::Strategy { .. } => Turn::Strategy,
            Self::ModelFile(_) | Self::NotFinite(_) => Turn::ModelFiles,
            Self::DeviceMemory(_) | Self::HostMemory(_) => Turn::DeviceMemory,
            Self::Busy => Turn::Later,
            Self::Cancelled => Turn::Nobody,
            Self::Tensor(_) => Turn::Bug,
        }
    }
}

/// Whose turn it is after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Whoever made the request: it does not fit, or names what is not there or cannot be read.
    Caller,
    /// Whoever has the model's files: they are there, and damaged or of another model.
    ModelFiles,
    /// The author of a strategy or of its library.
    Strategy,
    /// Whoever can make room on the device, or ask for less.
    DeviceMemory,
    /// Whoever can make room on the disk or in memory.
    Disk,
    /// The caller again, once another run has ended.
    Later,
    /// Nobody: it was stopped.
    Nobody,
    /// Ours.
    Bug,
}

/// A full disk is nobody's mistake; all else is in what was named.
fn turn_of_io(error: &io::Error) -> Turn {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    let full = [StorageFull, QuotaExceeded, FileTooLarge, OutOfMemory];
    let is_full = full.contains(&error.kind());
    if is_full { Turn::Disk } else { Turn::Caller }
}

fn turn_of_file(error: &files::Error) -> Turn {
    match error {
        files::Error::Io { source, .. } => turn_of_io(source),
        _ => Turn::Caller,
    }
}

fn turn_of_media(error: &wan_media::Error) -> Turn {
    use wan_media::Error as Media;
    match error {
        Media::File(error) => turn_of_file(error),
        Media::Io { source, .. } => turn_of_io(source),
        // The request was checked before: its own encoders and writers have failed.
        Media::Encode(_) | Media::Dropped { .. } | Media::Mux(_) | Media::Png(_) => Turn::Bug,
        _ => Turn::Caller,
    }
}

fn turn_of_output(error: &wan_outputs::Error) -> Turn {
    match error {
        wan_outputs::Error::NoRoom { .. } => Turn::Disk,
        wan_outputs::Error::Write { source, .. } => turn_of_io(source),
        _ => Turn::Caller,
    }
}

fn turn_of_kept(error: &wan_run_store::Error) -> Turn {
    match error {
        wan_run_store::Error::Io { source, .. } => turn_of_io(source),
        _ => Turn::Caller,
    }
}

/// A file that was named and is not there is the caller's; one that is there, the model's.
fn turn_of_model(error: &wan_model::Error) -> Turn {
    use wan_model::Error as Model;
    use wan_model::weights::FileError;
    match error {
        Model::WeightFile(FileError::Io { source, .. })
        | Model::WeightFile(FileError::File(files::Error::Io { source, .. }))
        | Model::File(files::Error::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Turn::Caller
        }
        // What was asked of the model, not what it is.
        Model::Input { .. } => Turn::Caller,
        _ => Turn::ModelFiles,
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
    fn every_error_is_somebodys_turn() {
        let io = |kind: io::ErrorKind| Error::io(Path::new("a"))(io::Error::from(kind));
        let file = |kind: io::ErrorKind| {
            let (path, source) = ("a".into(), io::Error::from(kind));
            files::Error::Io { path, source }
        };
        let media = |kind: io::ErrorKind| Error::Video(file(kind).into());
        let model = |kind: io::ErrorKind| Error::Model(file(kind).into());
        let write = |kind: io::ErrorKind| {
            let (path, source) = ("a".into(), io::Error::from(kind));
            Error::Output(wan_outputs::Error::Write { path, source })
        };
        let by = |kind: fn(&str) -> wan_plugin_api::Error| Error::strategy("a")(kind("why"));
        let (absent, full) = (io::ErrorKind::NotFound, io::ErrorKind::StorageFull);
        let forbidden = io::ErrorKind::PermissionDenied;
        let cut = wan_model::Error::MalformedFile { path: "a".into(), reason: "cut".into() };
        for (error, turn) in [
            (Error::invalid("a"), Turn::Caller),
            (Error::field("size", "a"), Turn::Caller),
            (io(absent), Turn::Caller),
            (io(forbidden), Turn::Caller),
            (io(full), Turn::Disk),
            (media(absent), Turn::Caller),
            (media(full), Turn::Disk),
            (model(absent), Turn::Caller),
            (model(forbidden), Turn::ModelFiles),
            (Error::Model(cut), Turn::ModelFiles),
            (Error::model_file("a"), Turn::ModelFiles),
            (write(forbidden), Turn::Caller),
            (write(full), Turn::Disk),
            (Error::File(file(absent)), Turn::Caller),
            (Error::NotFinite("a".into()), Turn::ModelFiles),
            (by(|why| wan_plugin_api::Error::invalid(why)), Turn::Caller),
            (by(|why| wan_plugin_api::Error::unsupported(why)), Turn::Strategy),
            (by(|why| wan_plugin_api::Error::failed(why)), Turn::Strategy),
            (by(|_| wan_plugin_api::Error::cancelled()), Turn::Strategy),
            (Error::Cancelled, Turn::Nobody),
            (Error::library("a", "why"), Turn::Strategy),
            (Error::DeviceMemory("a".into()), Turn::DeviceMemory),
            (Error::Busy, Turn::Later),
            (Error::Tensor(candle_core::Error::Msg("a".into())), Turn::Bug),
        ] {
            assert_eq!(error.turn(), turn, "{error:?}");
        }
    }

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
