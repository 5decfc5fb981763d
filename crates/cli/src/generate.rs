//! `wan generate`.

use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Command, value_parser};
use wan_host::Result;
use wan_host::parts::Registry;

use super::args::{chosen_metadata, flag, metadata, progress_form, save_file, switch, vae_tiling};
use super::making::{self, Job};
use super::outputs::{RunOutputs, overwrite};
use super::reproduce::Recorded;
use super::request::{cancel_on_interrupt, settle};
use super::run_flags::with_run_flags;
use super::wanted::Wanted;
use super::{device, effects, keeping, kernels, model, plan, prompt_cache};
use crate::progress::Progress;

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
        .args([device::arg(), kernels::arg(), prompt_cache::arg()])
        .args([save_file(), overwrite(), metadata(), vae_tiling()])
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
        ])
        .args(keeping::flags());
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
    keeping::check(matches, &settings)?;
    let (settings, plan) = plan::fit(&model, settings)?;
    let wanted = Wanted {
        keep_latents: matches.get_flag("keep_latents"),
        contact_sheet: keeping::absolute(matches, "contact_sheet")?,
        preview: keeping::preview(matches, &model)?,
        metadata: chosen_metadata(matches),
        cache_report: matches.get_flag("cache_report"),
        keep_run: matches.get_flag("keep_run"),
        overwrite: matches.get_flag("overwrite"),
        reproduces: recorded.as_ref().map(Recorded::reproduced),
    };
    let (kept, outputs) = RunOutputs::begin(matches, &model, &settings, &wanted)?;
    let folder = kept.path().to_path_buf();
    let (cancel, mut progress) = (cancel_on_interrupt(), Progress::new(progress_form(matches)));
    let job = Job {
        model: &model,
        settings: &settings,
        plan: &plan,
        wanted: &wanted,
        cancel: &cancel,
        every: keeping::every(matches),
        stop_after: keeping::stop_after(matches),
        changes: Vec::new(),
    };
    let parts = recorded.as_ref().map_or(Ok(()), |r| r.check_parts(&model, &settings));
    let made = match parts {
        Ok(()) => making::carry_out(&job, kept, outputs, &mut progress),
        Err(error) => {
            drop((kept, outputs));
            Err(error)
        }
    };
    made.inspect_err(|_| keeping::remove_if_nothing_is_done(&folder))
}
