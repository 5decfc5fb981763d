//! The folder of an unfinished run, `NAME.run`: checkpoints and growing files that outlive the
//! process, a power cut, a full disk and damaged bytes.
//!
//! | file | |
//! |---|---|
//! | `lock` | empty; locked (`flock`) while a process works on the run |
//! | `recipe.SHA256.json` | what the run is; written once. `{"version":1,"recipe":...}` |
//! | `round-000012.SHA256.safetensors` | a checkpoint |
//! | `growing-NAME` | a [`Growing`] file, or a [`Journal`]: appended to, never changed |
//! | `*.part` | what a writer is at, or left when it ended |
//! | `.NAME.part` | a claim of `wan-outputs`: what gets its name elsewhere when it is whole |
//! | `removed.SHA256.json` | the recipe of a run whose removal has begun |
//!
//! A **sealed file** (recipe, checkpoint) has the SHA-256 of its bytes in its name. It is written
//! by a temporary name, flushed and renamed, and then the folder is flushed: it is there as a whole
//! or not at all, and a byte that has changed since is detected. The last two checkpoints are kept.
//!
//! In a checkpoint's `__metadata__` stands one entry, `wan`:
//! `{"version":1,"number":12,"checkpoint":...}`.
//!
//! A **growing file** is named by a [`Mark`]: a length, and the hash of everything before it. A
//! checkpoint refers to the marks of its moment. Going on from a mark verifies what lies before it
//! and cuts off what lies behind it.
//!
//! A folder without a recipe is a run that was never begun: [`RunFolder::create`] takes it over, as
//! it does one whose removal was broken off. So a process that ends while it makes a folder leaves
//! nothing that looks like a run.
//!
//! Disks fail by halves. A write that fails leaves a file as it was. After a flush that fails
//! nobody knows what is on the disk, so a growing file takes nothing more then: the run goes on
//! from its last mark.
//!
//! The crate knows bytes, names and JSON texts, and neither a model nor a tensor library. It prints
//! nothing.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "numbers from outside are converted with checks"
    )
)]

mod checkpoint;
mod disk;
mod envelope;
mod error;
mod folder;
mod growing;
mod header;
mod held;
mod journal;
mod list;
mod names;
mod remove;
mod sealed;
mod session;

pub use checkpoint::{Checkpoint, CheckpointFile, Tensor};
pub use disk::Written;
pub use error::{Error, Result};
pub use folder::{Newest, RunFolder};
pub use growing::{Growing, Mark};
pub use header::TensorView;
pub use held::Worker;
pub use journal::{Journal, JournalReader};
pub use list::{Listed, list};
pub use remove::remove;

#[cfg(test)]
mod tests;
