//! A property: an invariant of step caches, and the check for it.

use crate::capability::Capability;
use crate::case::{Case, Checked};

/// An invariant that every cache keeps, unless a declared capability exempts it.
pub struct Property {
    /// Short name, unique in [`PROPERTIES`](crate::PROPERTIES).
    pub name: &'static str,
    /// The invariant, in one sentence.
    pub statement: &'static str,
    /// Condition on a case for the invariant to be visible; empty: always visible.
    pub premise: &'static str,
    /// Capabilities that exempt a cache.
    pub exempt: &'static [Capability],
    pub(crate) check: fn(&Case<'_>) -> Checked,
}

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
