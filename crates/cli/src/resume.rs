//! `wan resume`: goes on with a run that was stopped.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use wan_host::parts::Registry;
use wan_host::{Error, KeptRun, Model, Result, Settings};

use super::args::{
    flag, model_dir, plugin_dir, plugin_timeout, progress, progress_form, switch, vae_tiling,
};
use super::making::{self, Job};
use super::outputs::{RunOutputs, outputs_of};
use super::request::cancel_on_interrupt;
use super::wanted::Wanted;
use super::{device, keeping, kernels, model, plan, prompt_cache};
use crate::progress::Progress;

pub(super) fn command() -> Command {
    Command::new("resume")
        .about("Go on with a run that was stopped, from NAME.run")
        .after_help(
            "The video, its sidecar and its latents are those that the run would have had. Model, \
             plugins, program, device and processor have to be the same; what has changed is \
             named, and --allow_changes goes on all the same.",
        )
        .arg(
            Arg::new("run")
                .required(true)
                .value_name("NAME.run")
                .value_parser(value_parser!(PathBuf))
                .help("The folder of the run"),
        )
        .args([model_dir(), device::arg(), kernels::arg()])
        .args([progress(), plugin_dir(), plugin_timeout()])
        .args([vae_tiling(), prompt_cache::arg()])
        .args(keeping::flags())
        .args([
            flag("given_dir", "DIR", "Where given files may be; found by their hash")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .help_heading("Output"),
            switch("allow_changes", "Name what changed since the run was begun, and go on"),
            switch("overwrite", "Also replace files that this program did not make"),
        ])
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("run").expect("clap requires it");
    // `out.run/` is `out.run`.
    let path: PathBuf = path.components().collect();
    let kept = KeptRun::open(&path)?;
    kept.notices().iter().for_each(|notice| note!("{notice}"));
    let mut wanted = Wanted::of(kept.recipe(), &path)?;
    wanted.overwrite |= matches.get_flag("overwrite");
    wanted.keep_run |= matches.get_flag("keep_run");
    let allow_changes = matches.get_flag("allow_changes");
    if let Some(reproduced) = &mut wanted.reproduces {
        reproduced.allow_changes |= allow_changes;
    }
    let mut recorded = kept.recipe().sidecar.clone();
    let folders = matches.get_many::<PathBuf>("given_dir").into_iter().flatten();
    recorded.find_given(&path, &folders.cloned().collect::<Vec<_>>())?;
    let model = model::open(registry, matches, Some(&recorded))?;
    let settings = model.settle_again(&recorded)?;
    let tiling = settings.vae_tiling || matches.get_flag("vae_tiling");
    let settings = settings.with_vae_tiling(tiling);
    let (settings, plan) = plan::fit(&model, settings)?;
    keeping::check(matches, &settings)?;
    wanted.preview = keeping::preview(matches, &model)?;
    let changes = changes(&kept, (&model, &settings), allow_changes)?;
    let outputs = outputs_of(matches, &model, &settings);
    let outputs = RunOutputs::claim(outputs, &path, (&model, &settings), &wanted)?;
    let (cancel, mut progress) = (cancel_on_interrupt(), Progress::new(progress_form(matches)));
    let job = Job {
        model: &model,
        settings: &settings,
        plan: &plan,
        wanted: &wanted,
        cancel: &cancel,
        every: keeping::every(matches),
        stop_after: keeping::stop_after(matches),
        changes,
    };
    making::carry_out(&job, kept, outputs, &mut progress)
}

/// What has changed since the run was begun, now or when it was gone on with before.
fn changes(
    kept: &KeptRun,
    (model, settings): (&Model, &Settings),
    allow: bool,
) -> Result<Vec<String>> {
    let mut changes = kept.changes().to_vec();
    let now = kept.recipe().changes(model, settings);
    let new: Vec<String> = now.into_iter().filter(|change| !changes.contains(change)).collect();
    if !new.is_empty() && !allow {
        return Err(Error::invalid(format!(
            "{}: since this run was begun {}; --allow_changes goes on all the same",
            kept.path().display(),
            new.join("; ")
        )));
    }
    new.iter().for_each(|change| note!("since the run was begun {change}"));
    changes.extend(new);
    Ok(changes)
}
