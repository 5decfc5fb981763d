//! A run that is under way: rounds, what they hand out, the video as far as it is decoded, and
//! checkpoints.

use std::path::PathBuf;
use std::time::Instant;

use wan_host::{
    CheckpointEvery, Conditions, DecodingTime, Error, FrameDecoder, HandedOut, Keeper, KeptLatents,
    KeptRun, Model, Plan, Result, Run, RunState, Settings, VideoWriter,
};
use wan_media::{Fragment, SheetFrames, VideoFormat};

use super::job::Job;
use super::preview::Preview;
use crate::outputs::{RunOutputs, video_bytes};
use crate::plan;
use crate::progress::Progress;
use crate::prompt_cache;

/// Latent frames of a window, in practice at most.
const WINDOW_MAX: usize = 64;

/// Frames of a contact sheet.
const SHEET_FRAMES: usize = 8;

pub(super) struct Work<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) conditions: Conditions,
    /// Of these.
    pub(super) conditions_hash: String,
    pub(super) run: Run,
    pub(super) keeper: Keeper,
    pub(super) video: Option<VideoWriter<'a>>,
    pub(super) progress: &'a mut Progress,
    pub(super) folder: PathBuf,
    /// Whether it can be gone on with.
    pub(super) is_saved: bool,
    /// After the last round: what a checkpoint has beside the video.
    pub(super) last: Option<RunState>,
    /// Latent frames that are done before this process began, until they are decoded again.
    before: Option<KeptLatents>,
    /// What is decoded in the end, when the transformer is gone.
    later: Vec<HandedOut>,
    /// Latent frames that are decoded.
    decoded: usize,
    /// Latent frames in all.
    latent_frames: usize,
    /// Notices of the run that were said.
    said: usize,
    preview: Preview,
}

impl<'a> Work<'a> {
    /// Sets the run up, from its last checkpoint if there is one.
    pub(super) fn begin(
        job: &'a Job<'a>,
        mut kept: KeptRun,
        progress: &'a mut Progress,
    ) -> Result<Self> {
        let Job { model, settings, cancel, .. } = job;
        progress.plan(&plan::peak_line(model, job.plan), plan::peaks(job.plan));
        progress.phase("load", 0);
        // The encoders are gone before the transformers come.
        let conditions = model.encode(settings, cancel)?;
        progress.suspend(|| prompt_cache::say_notices(model));
        model.load_transformers(settings)?;
        let conditions_hash = conditions.hash()?;
        match kept.check_conditions(&conditions_hash) {
            Err(error) if job.changes.is_empty() => return Err(error),
            // Among what has changed, and was allowed, is what encodes.
            Err(_) => {
                progress.suspend(|| note!("the prompt or what is given is encoded otherwise"))
            }
            Ok(()) => {}
        }
        let mut run = match kept.state() {
            Some(state) => model.resume(settings, conditions.clone(), cancel, state)?,
            None => model.run(settings, conditions.clone(), cancel)?,
        };
        let is_saved = job.every != CheckpointEvery::Never && run.can_be_saved().is_ok();
        if is_saved {
            run.keep_boundary();
        }
        let latents = kept.latents();
        let video = if settings.latents_only {
            None
        } else {
            let (file, bytes) = kept.video();
            let decoder = model.decoder(settings, cancel)?;
            Some(job.video(decoder, (&file, bytes))?)
        };
        if is_saved {
            let video = if settings.latents_only { 0 } else { video_bytes(settings) };
            kept.take_room(video, checkpoint_bytes(model, settings, job.plan))?;
        }
        let every = if is_saved { job.every } else { CheckpointEvery::Never };
        Ok(Self {
            folder: kept.path().to_path_buf(),
            latent_frames: kept.recipe().latent_shape[2],
            keeper: kept.keep(every, conditions_hash.clone(), job.changes.clone())?,
            job,
            conditions,
            conditions_hash,
            run,
            video,
            progress,
            is_saved,
            last: None,
            before: (latents.frames() > 0).then_some(latents),
            later: Vec::new(),
            decoded: 0,
            said: 0,
            preview: Preview::default(),
        })
    }

    /// Does all that is left; gives whether there is nothing more to do.
    pub(super) fn go_on(&mut self, outputs: &mut RunOutputs) -> Result<bool> {
        self.say_notices();
        if !self.rounds(outputs)? {
            return Ok(false);
        }
        if self.video.is_some() {
            self.progress.phase("decode", self.latent_frames);
        }
        let rest = self.run.hand_out()?;
        self.keep(&rest)?;
        // Of after all that was handed out.
        self.last = if self.is_saved { Some(self.run.state()?) } else { None };
        self.checkpoint()?;
        // Of no more use to this run.
        self.job.model.release_transformers();
        self.decode_what_is_done()?;
        for out in std::mem::take(&mut self.later) {
            self.decode(&out)?;
        }
        self.decode(&rest)?;
        self.progress.finish();
        Ok(true)
    }

    /// Does the rounds that are left, or as many as are asked for.
    fn rounds(&mut self, outputs: &mut RunOutputs) -> Result<bool> {
        self.progress.phase("denoise", self.run.size().rounds);
        let mut here = 0;
        loop {
            let stops = self.job.stop_after == Some(here);
            self.show(outputs, stops);
            if stops && !self.run.is_done() {
                return Ok(false);
            }
            let Some(round) = self.run.round_wait()? else { break };
            here += 1;
            self.progress.round(&round, self.run.evaluations_done());
            self.say_notices();
            if self.run.is_done() {
                self.show(outputs, true);
                break;
            }
            let out = self.run.hand_out()?;
            self.keep(&out)?;
            let started = Instant::now();
            if !out.frames.is_empty() {
                self.decode_between(&out)?;
            }
            self.progress.charge("decode", started.elapsed().as_secs_f64());
            self.checkpoint()?;
        }
        self.progress.finish();
        Ok(true)
    }

    fn say_notices(&mut self) {
        let notices = self.run.notices()[self.said..].to_vec();
        self.said += notices.len();
        let of_keeper = self.keeper.take_notices();
        if notices.is_empty() && of_keeper.is_empty() {
            return;
        }
        self.progress.suspend(|| {
            notices.iter().chain(&of_keeper).for_each(|notice| note!("{notice}"));
        });
    }

    /// Rewrites the preview, if there is one and it is time.
    fn show(&mut self, outputs: &mut RunOutputs, is_last: bool) {
        if !outputs.has_preview() {
            return;
        }
        let shown = (self.job.model, &self.run, self.before.as_ref());
        let (seconds, said) = self.preview.show(shown, outputs, is_last);
        if seconds > 0.0 {
            self.progress.charge("preview", seconds);
        }
        if let Some(said) = said {
            self.progress.suspend(|| note!("{said}"));
        }
    }

    /// Has what was handed out written.
    fn keep(&mut self, out: &HandedOut) -> Result<()> {
        self.keeper.hand_out(out.clone())
    }

    /// Decodes again what was done before this process began, as far as frames that are still to be
    /// written depend on it.
    fn decode_what_is_done(&mut self) -> Result<()> {
        let Some(before) = self.before.take().filter(|_| self.video.is_some()) else {
            return Ok(());
        };
        let skipped = self.video.as_mut().map_or(0, |video| video.skip(before.frames()));
        self.decoded += skipped;
        for frame in before.each()?.skip(skipped) {
            let frame = frame?;
            let Some(video) = &mut self.video else { break };
            let fragments = video.push(&frame.latents)?;
            self.append(fragments)?;
        }
        Ok(())
    }

    /// Decodes what was handed out between two windows, or leaves it for the end.
    fn decode_between(&mut self, out: &HandedOut) -> Result<()> {
        let when = self.job.settings.residency().decoding;
        if when == DecodingTime::AtEnd {
            self.later.push(out.clone());
            return Ok(());
        }
        self.decode_what_is_done()?;
        self.decode(out)?;
        if let (Some(video), DecodingTime::Swapped) = (&mut self.video, when) {
            video.rest();
        }
        Ok(())
    }

    fn decode(&mut self, out: &HandedOut) -> Result<()> {
        for (latents, _) in &out.frames {
            let Some(video) = &mut self.video else { break };
            let fragments = video.push(latents)?;
            self.append(fragments)?;
        }
        Ok(())
    }

    /// A latent frame is decoded, and these segments of the video came of it.
    fn append(&mut self, fragments: Vec<Fragment>) -> Result<()> {
        self.job.cancel.check()?;
        self.decoded += 1;
        if self.run.is_done() {
            self.progress.step(self.decoded, self.latent_frames);
        }
        if fragments.is_empty() {
            return Ok(());
        }
        fragments.into_iter().try_for_each(|fragment| self.keeper.video(fragment))?;
        if self.last.is_some() { self.checkpoint() } else { Ok(()) }
    }

    /// Writes a checkpoint, if it is time.
    fn checkpoint(&mut self) -> Result<()> {
        if !self.is_saved || !self.keeper.is_due() {
            return Ok(());
        }
        let state = self.state()?;
        self.keeper.checkpoint(state)?;
        self.say_notices();
        Ok(())
    }

    /// The state to go on from: of the last round boundary.
    pub(super) fn state(&mut self) -> Result<RunState> {
        match &self.last {
            Some(last) => Ok(last.clone()),
            None => self.run.state(),
        }
    }
}

/// Bytes of a checkpoint, by estimate: the latents of a window with what a sampler keeps beside them,
/// and what the caches declare.
fn checkpoint_bytes(model: &Model, settings: &Settings, plan: &Plan) -> u64 {
    let [_, channels, frames, height, width] = model.latent_shape(settings);
    let latents = 4 * channels * frames.min(WINDOW_MAX) * height * width;
    plan.cache_bytes_max.saturating_add(4 * latents as u64 + (1 << 18))
}

impl Job<'_> {
    fn video<'m>(
        &self,
        decoder: FrameDecoder<'m>,
        file: (&std::path::Path, u64),
    ) -> Result<VideoWriter<'m>> {
        let values = self.settings;
        let size = (values.width.get(), values.height.get());
        let format = VideoFormat::new(size.0, size.1, values.fps).map_err(Error::from)?;
        let writer = VideoWriter::new(decoder, format, file)?;
        let frames = self.settings.video_frames();
        Ok(match self.wanted.contact_sheet {
            Some(_) => writer.with_sheet(SheetFrames::new(size, frames, SHEET_FRAMES)),
            None => writer,
        })
    }
}
