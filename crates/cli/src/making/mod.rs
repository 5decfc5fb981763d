//! From settings to a video, a round at a time, kept on the disk all the while: what `wan generate`
//! begins and `wan resume` goes on with.

mod ending;
mod report;
mod wanted;
mod work;

use wan_host::parts::Recipe;
use wan_host::{Cancel, CheckpointEvery, Conditions, KeptRun, Model, Result, Settings};

use crate::outputs::RunOutputs;
use crate::progress::Progress;
use work::Work;

pub(crate) use wanted::{Reproduced, Wanted};

/// A run, and what is to become of it.
pub(crate) struct Making<'a> {
    pub(crate) model: &'a Model,
    pub(crate) settings: &'a Settings,
    pub(crate) conditions: &'a Conditions,
    pub(crate) wanted: &'a Wanted,
    pub(crate) cancel: &'a Cancel,
    pub(crate) every: CheckpointEvery,
    /// Rounds after which it stops, to be gone on with.
    pub(crate) stop_after: Option<usize>,
    /// What has changed since the run was begun.
    pub(crate) changes: Vec<String>,
}

impl Making<'_> {
    /// Does what is left of a run, and writes its files.
    ///
    /// # Errors
    /// What stopped it. What is done by then can be gone on with, where the run can be saved.
    pub(crate) fn run(
        &self,
        kept: KeptRun,
        outputs: RunOutputs,
        progress: &mut Progress,
    ) -> Result<()> {
        let folder = kept.path().to_path_buf();
        kept.check_conditions(&self.conditions.hash()?)?;
        let mut work = Work::begin(self, kept, progress)?;
        match work.to_the_end() {
            Ok(true) => work.finish(outputs),
            Ok(false) => {
                work.put_away()?;
                say!("stopped as asked; go on with: wan resume {}", folder.display());
                Ok(())
            }
            Err(error) => {
                work.save_what_is_done(outputs);
                Err(error)
            }
        }
    }
}

/// What the folder of a new run says of it.
pub(crate) fn recipe(model: &Model, settings: &Settings, wanted: &Wanted) -> Recipe {
    let wanted = serde_json::to_value(wanted).unwrap_or_default();
    Recipe::of(model, settings, wanted)
}
