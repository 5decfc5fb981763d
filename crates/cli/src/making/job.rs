//! A run, and what is to become of it.

use wan_host::{Cancel, CheckpointEvery, Model, Plan, Settings};

use crate::wanted::Wanted;

/// A run, and what is to become of it.
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Model,
    pub(crate) settings: &'a Settings,
    pub(crate) plan: &'a Plan,
    pub(crate) wanted: &'a Wanted,
    pub(crate) cancel: &'a Cancel,
    pub(crate) every: CheckpointEvery,
    /// Rounds after which it stops, to be gone on with.
    pub(crate) stop_after: Option<usize>,
    /// What has changed since the run was begun.
    pub(crate) changes: Vec<String>,
}
