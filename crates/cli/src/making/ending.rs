//! The end of a run: its files are written, or what is done is put where it can be gone on with.

use wan_host::parts::{Ended, EvaluationRecord};
use wan_host::{Error, KeptRun, Result, Sampled, Settings, Sidecar};
use wan_media::{SheetFrames, SheetLayout};
use wan_outputs::Claim;

use super::report;
use super::work::Work;
use crate::finish::{self, Finished};
use crate::outputs::{RunOutputs, VideoOutput};

impl Work<'_> {
    /// Writes the files of a run that has nothing left to do.
    pub(super) fn finish(self, outputs: RunOutputs) -> Result<()> {
        let Self { making, run, mut keeper, video, progress, .. } = self;
        let mut sheet = None;
        if let Some(video) = video {
            let (bytes, frames) = video.finish()?;
            keeper.video(bytes)?;
            sheet = frames;
        }
        let sampled = run.finish()?;
        let mut ended = keeper.end()?;
        let (records, latents) = (ended.records()?, ended.latents()?);
        let mut sidecar =
            making.model.sidecar_of(making.settings, &sampled, &records, latents.hash()?);
        sidecar.resumed_with.clone_from(&making.changes);
        if let Some(reproduced) = &making.wanted.reproduces {
            reproduced.check(&mut sidecar)?;
        }
        progress.finish();
        progress.note_phases(&mut sidecar);
        say_what_it_took(&ended);
        let RunOutputs { video, latents: file, sheet: sheet_file } = outputs;
        let file = file.map(|claim| latents.save(&sidecar, claim)).transpose()?;
        let Some(VideoOutput { video: claim, sidecar: report }) = video else {
            let path = file.map(|kept| kept.path().display().to_string());
            say!("wrote {}", path.unwrap_or_default());
            return making.put_away(ended.kept);
        };
        let path = claim.path().to_path_buf();
        progress.phase("write", 0);
        if let Some((claim, frames)) = sheet_file.zip(sheet) {
            write_contact_sheet(claim, frames, making.settings)?;
        }
        sidecar.memory.see_the_end(making.model.device());
        let (growing, bytes) = ended.kept.video();
        sidecar.save_video((&growing, bytes), (claim, report), making.wanted.metadata)?;
        progress.finish();
        let mut said = sidecar.clone();
        progress.note_phases(&mut said);
        let finished = Finished { path: &path, sidecar: &said, sampled: &sampled };
        say!("{}", finish::summary(&finished, making.settings.video_frames(), &records));
        report::warn_of_the_cache(making.settings, &sampled);
        if making.wanted.cache_report {
            making.report_cache(&sampled, &latents)?;
        }
        making.put_away(ended.kept)
    }

    /// Writes the state of the last round boundary; the folder stays.
    pub(super) fn put_away(mut self) -> Result<()> {
        self.progress.finish();
        let state = self.state()?;
        self.keeper.checkpoint_now(state)?;
        self.keeper.take_notices().iter().for_each(|notice| note!("{notice}"));
        self.keeper.end().map(drop)
    }

    /// Something has stopped it: what is done is put where it can be gone on with.
    pub(super) fn save_what_is_done(mut self, error: &Error, outputs: RunOutputs) {
        self.progress.finish();
        let folder = self.folder.clone();
        if self.is_saved && self.is_worth_keeping() {
            match self.put_away() {
                Ok(()) => note!("nothing is lost; go on with: wan resume {}", folder.display()),
                Err(error) => note!(
                    "{error}; what was written before is still there: wan resume {}",
                    folder.display()
                ),
            }
            return;
        }
        if let Err(error) = self.keep_latents(error, outputs) {
            note!("what was done before could not be kept: {error}");
        }
    }

    /// Of a run that cannot be gone on with the latents are kept, unless it was the user who stopped
    /// it; the folder goes.
    fn keep_latents(self, error: &Error, outputs: RunOutputs) -> Result<()> {
        let Self { making, mut run, mut keeper, is_saved, .. } = self;
        let is_lost = is_saved || matches!(error, Error::Cancelled) || run.rounds_done() == 0;
        let sampled = if is_lost { None } else { Some(run.finish_early()?) };
        if let Some(sampled) = &sampled {
            keeper.hand_out(sampled.rest())?;
        }
        let mut ended = keeper.end()?;
        if let Some(sampled) = sampled {
            let (records, latents) = (ended.records()?, ended.latents()?);
            let hash = latents.hash()?;
            let sidecar = making.model.sidecar_of(making.settings, &sampled, &records, hash);
            let claim = outputs.claim_of_latents()?;
            let kept = latents.save(&sidecar, claim)?;
            let path = kept.path().display().to_string();
            if sidecar.ends_at.is_empty() {
                note!("the latents are safe; finish with: wan decode {path}");
            } else {
                note!("what was done before is in {path}");
            }
        }
        super::remove(ended.kept)
    }
}

/// Eight frames, evenly spaced.
fn write_contact_sheet(claim: Claim, frames: SheetFrames, settings: &Settings) -> Result<()> {
    let shown = frames.shown();
    let layout =
        SheetLayout { columns: shown, scale: (256 / settings.width.get()).max(1), gap: 4 };
    claim.write(&frames.finish(layout)?)?;
    Ok(())
}

fn say_what_it_took(ended: &Ended) {
    tracing::info!(
        checkpoints = ended.checkpoints,
        bytes = ended.bytes,
        fsyncs = ended.fsyncs,
        waited_seconds = ended.waited_seconds,
        writer_seconds = ended.writer_seconds,
        "checkpoints"
    );
}
