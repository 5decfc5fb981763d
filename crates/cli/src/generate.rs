//! `wan generate`.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Command, value_parser};
use wan_host::parts::Registry;
use wan_host::{Cancel, Conditions, Error, Generated, Model, Result, Run, Sampled, Settings};
use wan_media::{SheetLayout, VideoFrames, encode_png_sheet, evenly_spaced, psnr};
use wan_outputs::Claim;

use super::args::{chosen_metadata, flag, metadata, progress_form, save_file, switch, vae_tiling};
use super::outputs::{RunOutputs, VideoOutput, overwrite};
use super::reproduce::Recorded;
use super::request::{cancel_on_interrupt, settle};
use super::run_flags::with_run_flags;
use super::{device, effects, finish, model};
use crate::progress::Progress;

/// Runs of reuses in one branch that are worth a warning.
const REUSED_IN_A_ROW_MAX: usize = 8;

pub(super) fn command(registry: &Registry) -> Command {
    let command = Command::new("generate")
        .about("Generate a video from a prompt")
        .after_help(
            "Every flag may be written with underscores or hyphens. Flags that are not given take \
             the default of --task, else of the model folder's wan.toml, else of the published \
             model that the tensors are of.\n\n\
             Examples:\n  wan generate --prompt \"a big red ball moving right over a meadow\"\n  \
             wan generate --cache none --base_seed 7 --save_file out.mp4\n  \
             wan generate --sample_steps 30 --cache_option threshold=0.2 --cache_report",
        )
        .args([device::arg(), save_file(), overwrite(), metadata(), vae_tiling()])
        .args([
            flag("job", "FILE", "Take what flags do not say from this request in JSON; - reads it")
                .value_parser(value_parser!(PathBuf)),
            switch("cache_report", "Also run without the cache; print what it saved and cost"),
            flag(
                "reproduce",
                "NAME.json",
                "Make the video of this sidecar again, bit for bit, or with changed settings",
            )
            .value_parser(value_parser!(PathBuf))
            .help_heading("Output"),
            flag(
                "given_dir",
                "DIR",
                "With --reproduce: where given files may be; found by their hash",
            )
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Append)
            .help_heading("Output"),
            switch("allow_changes", "With --reproduce: name what changed since, and go on"),
            switch("keep_latents", "Keep the latents beside the video"),
            flag("contact_sheet", "FILE", "Also write eight frames side by side, as PNG")
                .value_parser(value_parser!(PathBuf))
                .help_heading("Output"),
        ]);
    with_run_flags(command, registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let recorded = Recorded::read(matches)?;
    let model = model::open(registry, matches, recorded.as_ref().map(|r| &r.sidecar))?;
    let settings = match &recorded {
        Some(recorded) => recorded.settings(&model, matches)?,
        None => settle(&model, matches)?,
    };
    effects::check(effects::OF_GENERATE, matches, &settings)?;
    let RunOutputs { video, latents, sheet } = RunOutputs::claim(matches, &model, &settings)?;
    let (model, settings, cancel) = (&model, &settings, &cancel_on_interrupt());
    let mut progress = Progress::new(progress_form(matches));

    progress.phase("load", 0);
    if let Some(recorded) = &recorded {
        recorded.check_parts(model, settings)?;
    }
    // The encoders are gone before the transformers come.
    let conditions = &model.encode(settings, cancel)?;
    model.load_transformers(settings)?;
    let job = Job { model, settings, conditions, cancel };
    let (sampled, latents) = job.sample(&mut progress, latents)?;

    let mut sidecar = model.sidecar(settings, &sampled)?;
    progress.note_phases(&mut sidecar);
    if let Some(recorded) = &recorded {
        recorded.check_latents(&sidecar)?;
        recorded.sign(&mut sidecar);
    }
    let latents = sidecar.save_latents(latents, &sampled.latents)?;
    let Some(VideoOutput { video: file, sidecar: report }) = video else {
        progress.finish();
        say!("wrote {}", latents.path().display());
        return Ok(());
    };
    let path = file.path().to_path_buf();
    let decoded = job.decode(&sampled, &mut progress).and_then(|frames| {
        progress.phase("write", 0);
        progress.finish();
        progress.note_phases(&mut sidecar);
        sidecar.memory.see_the_end(model.device());
        let video = Generated { frames, sidecar, notices: Vec::new() };
        video.save_to(file, report, chosen_metadata(matches))?;
        sheet.map_or(Ok(()), |sheet| write_contact_sheet(sheet, &video.frames))?;
        Ok(video)
    });
    let video = decoded.inspect_err(|_| {
        let name = latents.path().display();
        note!("the latents are safe; finish with: wan decode {name}");
    })?;
    if !matches.get_flag("keep_latents") {
        latents.remove()?;
    }
    say!("{}", finish::summary(&path, &video, &sampled));
    warn_of_the_cache(settings, &sampled);
    if matches.get_flag("cache_report") {
        job.report_cache((&sampled, &video.frames))?;
    }
    Ok(())
}

/// Eight frames, evenly spaced.
fn write_contact_sheet(sheet: Claim, frames: &VideoFrames) -> Result<()> {
    let indices = evenly_spaced(frames, 8);
    let layout =
        SheetLayout { columns: indices.len(), scale: (256 / frames.width()).max(1), gap: 4 };
    sheet.write(&encode_png_sheet(frames, &indices, layout)?)?;
    Ok(())
}

/// What is generated, and from what.
struct Job<'a> {
    model: &'a Model,
    settings: &'a Settings,
    conditions: &'a Conditions,
    cancel: &'a Cancel,
}

impl Job<'_> {
    /// Samples; `latents` get what was done before a failure.
    fn sample(&self, progress: &mut Progress, latents: Claim) -> Result<(Sampled, Claim)> {
        let mut run = self.model.run(self.settings, self.conditions.clone(), self.cancel)?;
        // No line goes into a bar that is shown.
        progress.finish();
        let said = run.notices().len();
        run.notices().iter().for_each(|notice| note!("{notice}"));
        progress.phase("denoise", self.settings.sample_steps.get());
        loop {
            match run.round_wait() {
                Ok(Some(round)) => progress.step(round.done, round.rounds, Some(round.decisions)),
                Ok(None) => break,
                Err(error) => {
                    progress.finish();
                    if !matches!(error, Error::Cancelled) {
                        self.keep_what_is_done(run, latents);
                    }
                    return Err(error);
                }
            }
        }
        progress.finish();
        let sampled = run.finish()?;
        sampled.notices[said..].iter().for_each(|notice| note!("{notice}"));
        Ok((sampled, latents))
    }

    /// Saves the latents as the last whole round left them.
    fn keep_what_is_done(&self, run: Run, latents: Claim) {
        let Ok(sampled) = run.finish_early() else { return };
        let sidecar = self.model.sidecar(self.settings, &sampled);
        match sidecar.and_then(|sidecar| sidecar.save_latents(latents, &sampled.latents)) {
            Ok(kept) => note!("what was done before is in {}", kept.path().display()),
            Err(error) => note!("what was done before could not be kept: {error}"),
        }
    }

    fn decode(&self, sampled: &Sampled, progress: &mut Progress) -> Result<VideoFrames> {
        let decoding = self.model.decode(self.settings, &sampled.latents, self.cancel)?;
        progress.phase("decode", decoding.latent_frames());
        decoding.collect_frames_with(&mut |done, of| progress.step(done, of, None))
    }

    /// Runs again without the cache; prints what the cache saved and what it cost.
    fn report_cache(&self, (cached, cached_frames): (&Sampled, &VideoFrames)) -> Result<()> {
        let plain = self.model.with_cache(self.settings, None)?;
        let run = self.model.run(&plain, self.conditions.clone(), self.cancel)?;
        let uncached = run.finish_with(&mut |_| {})?;
        let decoding = self.model.decode(&plain, &uncached.latents, self.cancel)?;
        let frames = decoding.collect_frames()?;
        let count = cached.decisions.all();
        say!(
            "cache report: {:.1} % of {} block-stack evaluations reused, PSNR {:.2} dB against \
             the same run uncached, {:.2} s instead of {:.2} s",
            100.0 * count.reused_share(),
            count.computed + count.reused,
            psnr(cached_frames.rgb(), frames.rgb()),
            cached.seconds,
            uncached.seconds
        );
        Ok(())
    }
}

fn warn_of_the_cache(settings: &Settings, sampled: &Sampled) {
    let Some(cache) = &settings.cache else { return };
    let count = sampled.decisions.all();
    if count.reused == 0 {
        note!("{} never reused anything; raise its threshold or use --cache none", cache.id);
    }
    if count.reused_in_a_row > REUSED_IN_A_ROW_MAX {
        note!(
            "{} reused {} evaluations in a row; look at the picture",
            cache.id,
            count.reused_in_a_row
        );
    }
}
