//! The errors of this crate: file, tensor, what was expected and what was found.

use std::path::PathBuf;

use wan_border::files;

use crate::misfit::Misfit;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be opened or read, or is not what its name says.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A weight file cannot be read, is cut short, of no format that is read, or was changed.
    #[error(transparent)]
    WeightFile(#[from] wan_weight_files::Error),
    /// A file contradicts itself, or is not what it should be.
    #[error("{}: {reason}", path.display())]
    MalformedFile {
        /// The file.
        path: PathBuf,
        /// The defect, with numbers.
        reason: String,
    },
    /// The model needs a tensor that the weights do not have.
    #[error("{origin}: tensor `{name}` is missing")]
    MissingTensor {
        /// The weight files searched.
        origin: String,
        /// Full name of the tensor.
        name: String,
    },
    /// A tensor does not have the shape that follows from the config.
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
    /// The tensors of files are not those of the network they were opened for.
    #[error("{origin}: {misfit}")]
    Misfit {
        /// The weight files.
        origin: String,
        /// Which tensors, and how they differ.
        misfit: Misfit,
    },
    /// An argument of a forward pass does not fit the model.
    #[error("{what}: expected {expected}, got {found}")]
    Input {
        /// The argument.
        what: &'static str,
        /// What fits.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// A config of no model that this crate can build.
    #[error("config: {0}")]
    Config(String),
    /// An [`Observer`](crate::Observer) ended the forward pass.
    #[error("the forward pass was stopped")]
    Stopped,
    /// A network gave numbers that are not finite: its weights are damaged, or its number format is
    /// too narrow.
    #[error(
        "{network} gave numbers that are not finite: its weights are damaged, or need a wider \
         number format"
    )]
    NotFinite {
        /// The network, as `the text encoder`.
        network: &'static str,
    },
    /// Converted weights could not be written.
    #[error("writing weights: {0}")]
    Write(std::io::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Candle(candle_core::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps the error to pass it through candle's operations, which return candle's errors.
    /// `From<candle_core::Error>` unwraps it.
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
