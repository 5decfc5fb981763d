//! What can go wrong, as facts: which file, which tensor, what was expected, what was found.

use std::path::PathBuf;

use crate::inspect::Misfit;

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is there, but is cut short or is not what its name says.
    #[error("{}: {reason}", path.display())]
    MalformedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the numbers that show it.
        reason: String,
    },
    /// A file is no longer what it was when its header was read.
    #[error(
        "{}: changed since its header was read ({difference}); open the model again",
        path.display()
    )]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// What it was, and what it is.
        difference: String,
    },
    /// The model needs a tensor that the weights do not have.
    #[error("{origin}: tensor `{name}` is missing")]
    MissingTensor {
        /// The weight files searched.
        origin: String,
        /// Full name of the tensor.
        name: String,
    },
    /// A tensor has another shape than the config asks for.
    #[error("{origin}: tensor `{name}` has shape {found:?}, the config asks for {expected:?}")]
    WrongShape {
        /// The weight file it came from.
        origin: String,
        /// Full name of the tensor.
        name: String,
        /// Shape that follows from the config.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// The tensors of files are not those of the network that they were opened for.
    #[error("{origin}: {misfit}")]
    Misfit {
        /// The weight files.
        origin: String,
        /// Which tensors, and how they differ.
        misfit: Misfit,
    },
    /// A tensor or list handed to a forward pass does not fit the model.
    #[error("{what}: expected {expected}, got {found}")]
    Input {
        /// Which argument.
        what: &'static str,
        /// What would have fitted.
        expected: String,
        /// What was handed over.
        found: String,
    },
    /// A config that names no model this crate can build.
    #[error("config: {0}")]
    Config(String),
    /// An [`Observer`](crate::Observer) ended the forward pass.
    #[error("the forward pass was stopped")]
    Stopped,
    /// The tensor library failed.
    #[error(transparent)]
    Candle(candle_core::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Hands the error through candle's `VarBuilder`, whose backends may only return candle's
    /// own; `From<candle_core::Error>` takes it out again on the other side.
    pub(crate) fn through_candle(self) -> candle_core::Error {
        candle_core::Error::WrappedContext { wrapped: Box::new(self), context: String::new() }
    }

    pub(crate) fn input(
        what: &'static str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Debug,
    ) -> Self {
        Self::Input { what, expected: expected.to_string(), found: format!("{found:?}") }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        use candle_core::Error as Candle;
        const UNNAMED: &str = "the given weights";
        match error {
            Candle::WithBacktrace { inner, .. } => Self::from(*inner),
            Candle::WrappedContext { wrapped, context } => match wrapped.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(wrapped) => Self::Candle(Candle::WrappedContext { wrapped, context }),
            },
            Candle::CannotFindTensor { path } => {
                Self::MissingTensor { origin: UNNAMED.to_owned(), name: path }
            }
            Candle::UnexpectedShape { msg, expected, got } => Self::WrongShape {
                origin: UNNAMED.to_owned(),
                name: msg.strip_prefix("shape mismatch for ").unwrap_or(&msg).to_owned(),
                expected: expected.into_dims(),
                found: got.into_dims(),
            },
            other => Self::Candle(other),
        }
    }
}
