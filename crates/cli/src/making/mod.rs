//! From settings to a video, a round at a time, kept on the disk all the while: what `wan generate`
//! begins and `wan resume` goes on with.

mod ending;
mod job;
mod preview;
mod report;
mod work;

use wan_host::{KeptRun, Result};

use crate::outputs::RunOutputs;
use crate::progress::Progress;
use work::Work;

pub(crate) use job::Job;

/// Loads what a run needs, does what is left of it, and writes its files.
///
/// # Errors
/// What stopped it. What is done by then can be gone on with, where the run can be saved.
pub(crate) fn carry_out(
    job: &Job<'_>,
    kept: KeptRun,
    mut outputs: RunOutputs,
    progress: &mut Progress,
) -> Result<()> {
    let folder = kept.path().to_path_buf();
    let mut work = Work::begin(job, kept, progress)?;
    match work.go_on(&mut outputs) {
        Ok(true) => work.finish(outputs),
        Ok(false) => {
            work.put_away()?;
            say!("stopped as asked; go on with: wan resume {}", folder.display());
            Ok(())
        }
        Err(error) => {
            work.save_what_is_done(&error, outputs);
            Err(error)
        }
    }
}
