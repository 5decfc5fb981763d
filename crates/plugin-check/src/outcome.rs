//! How a test ended.

use serde::{Deserialize, Serialize};

/// One of six ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Pass,
    /// It holds, and there is something that the author may want to know.
    Warn,
    /// It does not hold.
    Fail,
    /// The process ended.
    Crash,
    /// The process did not end.
    Timeout,
    /// There is nothing to see.
    Skipped,
}

impl Status {
    /// All, in the order of a summary.
    pub const ALL: [Self; 6] =
        [Self::Pass, Self::Warn, Self::Fail, Self::Crash, Self::Timeout, Self::Skipped];

    /// Whether the library may be used as far as this goes.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Pass | Self::Warn | Self::Skipped)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
        }
    }
}

/// How a test ended, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub status: Status,
    /// One line; may be empty where it holds.
    pub message: String,
}

impl Outcome {
    /// An outcome; the message becomes one line.
    pub fn new(status: Status, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { status, message }
    }

    /// This outcome, unless it is a good one and there is a fault.
    pub(super) fn unless(self, fault: Option<String>) -> Self {
        match fault {
            Some(fault) if self.status.is_good() => Self::new(Status::Fail, fault),
            _ => self,
        }
    }

    pub(super) fn pass(message: impl AsRef<str>) -> Self {
        Self::new(Status::Pass, message)
    }

    pub(super) fn warn(message: impl AsRef<str>) -> Self {
        Self::new(Status::Warn, message)
    }

    pub(super) fn skipped(message: impl AsRef<str>) -> Self {
        Self::new(Status::Skipped, message)
    }
}

/// Why a test fails. What a strategy says against a plain request is such a reason, a panic that
/// the door caught included.
#[derive(Debug)]
pub(super) struct Failed(pub(super) String);

impl From<wan_plugin_api::Error> for Failed {
    fn from(error: wan_plugin_api::Error) -> Self {
        Self(error.message)
    }
}

/// What a test gives.
pub(super) type Checked<T = Outcome> = std::result::Result<T, Failed>;

/// Fails unless something holds.
macro_rules! ensure {
    ($holds:expr, $($says:tt)+) => {
        // Bound first: of two floats, neither may be the smaller.
        let holds: bool = $holds;
        if !holds {
            return Err($crate::outcome::Failed(format!($($says)+)));
        }
    };
}
pub(super) use ensure;
