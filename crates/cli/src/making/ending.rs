//! The end of a run: its files are written, or what is done is put where it can be gone on with.

use std::path::Path;

use wan_host::{Conditions, Ended, Error, Format, KeptRun, Result, Sampled, Settings};
use wan_media::{SheetFrames, SheetLayout};
use wan_outputs::Claim;
use wan_plugin_api::Place;

use super::job::Job;
use super::report;
use super::work::Work;
use crate::finish::Finished;
use crate::keeping;
use crate::outputs::{RunOutputs, VideoOutput};
use crate::progress::Progress;

impl Work<'_> {
    /// Writes the files of a run that has nothing left to do.
    pub(super) fn finish(self, outputs: RunOutputs) -> Result<()> {
        let Self {
            job, conditions, conditions_hash, run, mut keeper, video, progress, last, ..
        } = self;
        let mut sheet = None;
        if let Some(video) = video {
            let (fragment, frames) = video.finish()?;
            fragment.map_or(Ok(()), |fragment| keeper.video(fragment))?;
            sheet = frames;
        }
        let sampled = run.finish()?;
        let ended = keeper.end()?;
        say_what_it_took(&ended);
        let ending = Ending { job, conditions: &conditions, sampled: &sampled, progress };
        if let Err(error) = ending.write_files(&ended, outputs, sheet) {
            let folder = ended.kept.path().to_path_buf();
            if let Some(last) = last {
                let mut keeper =
                    ended.kept.keep(job.every, conditions_hash, job.changes.clone())?;
                let written = keeper.checkpoint_now(last);
                drop(keeper);
                say_whether_it_is_safe(written, &folder);
            }
            return Err(error);
        }
        remove(ended.kept, job.wanted.keep_run);
        Ok(())
    }

    /// Writes the state of the last round boundary; the folder stays.
    pub(super) fn put_away(mut self) -> Result<()> {
        self.progress.finish();
        let state = self.state()?;
        self.keeper.checkpoint_now(state)?;
        self.keeper.end().map(drop)
    }

    /// Something has stopped it: what is done is put where it can be gone on with.
    pub(super) fn save_what_is_done(self, error: &Error, outputs: RunOutputs) {
        self.progress.finish();
        let folder = self.folder.clone();
        if matches!(error, Error::DeviceMemory(_)) {
            let (phase, helps) = self.where_memory_ran_out();
            note!("the device's memory ran out while it was to {phase}; what helps first: {helps}");
        }
        if self.is_saved && self.run.rounds_done() > 0 {
            return say_whether_it_is_safe(self.put_away(), &folder);
        }
        if let Err(error) = self.keep_latents(error, outputs) {
            note!("what was done before could not be kept: {error}");
        }
    }

    /// The phase that is under way, and the mildest change that takes less memory in it.
    fn where_memory_ran_out(&self) -> (&'static str, &'static str) {
        let settings = self.job.settings;
        let is_cache_beside = settings.cache.is_some() && settings.cache_device == Place::Device;
        match self.run.is_done() {
            true if !settings.vae_tiling => ("decode", "wan resume --vae_tiling"),
            true => ("decode", "another program may use the device; else --device cpu"),
            false if is_cache_beside => ("denoise", "--cache_device host"),
            false if settings.precision.dtype == Format::F32 => ("denoise", "--dtype bf16"),
            false => ("denoise", "fewer frames, or a smaller --size"),
        }
    }

    /// Of a run that cannot be gone on with the latents are kept, unless it was the user who stopped
    /// it; the folder goes.
    fn keep_latents(self, error: &Error, outputs: RunOutputs) -> Result<()> {
        let Self { job, mut run, mut keeper, is_saved, .. } = self;
        let is_given_up = matches!(error, Error::Cancelled) && !run.is_done();
        let is_lost = is_saved || is_given_up || run.rounds_done() == 0;
        if !is_lost {
            keeper.hand_out(run.hand_out_rest()?)?;
        }
        let sampled = if is_lost { None } else { Some(run.finish_early()?) };
        let ended = keeper.end()?;
        // What is claimed lies in the folder.
        let claim = if is_lost {
            drop(outputs);
            None
        } else {
            Some(outputs.claim_of_latents()?)
        };
        if let Some((sampled, claim)) = sampled.zip(claim) {
            let (records, latents) = (ended.records()?, ended.latents());
            let hash = latents.hash()?;
            let sidecar = job.model.sidecar_of(job.settings, &sampled, &records, hash);
            let kept = latents.save(&sidecar, claim)?;
            let path = kept.path().display().to_string();
            if sidecar.ends_at.is_empty() {
                note!("the latents are safe; finish with: wan decode {path}");
            } else {
                note!("what was done before is in {path}");
            }
        }
        remove(ended.kept, false);
        Ok(())
    }
}

/// Says how to go on, where the last state is on the disk.
fn say_whether_it_is_safe(written: Result<()>, folder: &Path) {
    match written {
        Ok(()) => note!("nothing is lost; go on with: wan resume {}", folder.display()),
        Err(error) => {
            note!("what was done could not be written: {error}");
            keeping::after_a_sudden_end(folder);
        }
    }
}

/// A run that is done, and whose files are to be written.
struct Ending<'a> {
    job: &'a Job<'a>,
    conditions: &'a Conditions,
    sampled: &'a Sampled,
    progress: &'a mut Progress,
}

impl Ending<'_> {
    fn write_files(
        self,
        ended: &Ended,
        outputs: RunOutputs,
        sheet: Option<SheetFrames>,
    ) -> Result<()> {
        let Self { job, conditions, sampled, progress } = self;
        let (records, latents) = (ended.records()?, ended.latents());
        let Job { model, settings, wanted, .. } = job;
        let mut sidecar = model.sidecar_of(settings, sampled, &records, latents.hash()?);
        sidecar.resumed_with.clone_from(&job.changes);
        if let Some(reproduced) = &wanted.reproduces {
            reproduced.check(&mut sidecar)?;
        }
        progress.note_phases(&mut sidecar);
        let RunOutputs { video, latents: file, sheet: sheet_file, .. } = outputs;
        let file = file.map(|claim| latents.save(&sidecar, claim)).transpose()?;
        let Some(VideoOutput { video, sidecar: report }) = video else {
            let path = file.map(|kept| kept.path().display().to_string());
            say!("wrote {}", path.unwrap_or_default());
            return Ok(());
        };
        let path = video.path().to_path_buf();
        progress.phase("write", 0);
        if let Some((claim, frames)) = sheet_file.zip(sheet) {
            write_contact_sheet(claim, frames, settings)?;
        }
        progress.finish();
        progress.note_phases(&mut sidecar);
        sidecar.memory.see_the_end(model.device());
        let (growing, bytes) = ended.kept.video();
        sidecar.save_video((&growing, bytes), (video, report), wanted.metadata)?;
        let finished = Finished { path: &path, sidecar: &sidecar, sampled };
        say!("{}", finished.summary(settings.video_frames(), &records));
        report::warn_of_the_cache(settings, sampled);
        if !wanted.cache_report {
            return Ok(());
        }
        job.report_cache(conditions, sampled, &latents)
    }
}

/// Removes the folder of a run that is done with; what others put there stays, and is said.
fn remove(kept: KeptRun, stays: bool) {
    if stays {
        return;
    }
    let folder = kept.path().to_path_buf();
    match kept.remove().map(|left| left.into_iter().next()) {
        Ok(None) => {}
        Ok(Some(first)) => {
            note!("{} stays: {} is not of this program", folder.display(), first.display());
        }
        Err(error) => note!("{} stays: {error}", folder.display()),
    }
}

/// Eight frames, evenly spaced.
fn write_contact_sheet(claim: Claim, frames: SheetFrames, settings: &Settings) -> Result<()> {
    let shown = frames.shown();
    let layout = SheetLayout { columns: shown, scale: (256 / settings.width.get()).max(1), gap: 4 };
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
