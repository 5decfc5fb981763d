//! `wan cache record`.

use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
use wan_cache_lab::Shared;
use wan_cache_lab::recording::Recorder;
use wan_host::Result;
use wan_host::parts::{Registry, RunContext};

use crate::args::{flag, progress_form};
use crate::finish::bytes;
use crate::outputs::{claim, outputs_of, overwrite};
use crate::progress::Progress;
use crate::request::{cancel_on_interrupt, settle};
use crate::run_flags::with_run_flags;
use crate::{device, effects, model, prompt_cache};

pub(super) fn command(registry: &Registry) -> Command {
    let command = Command::new("record")
        .about("Generate without a cache and keep every evaluation, for replay and calibrate")
        .arg(
            flag("out", "FILE", "The recording (safetensors)")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help_heading("Recording"),
        );
    with_run_flags(command.args([device::arg(), prompt_cache::arg(), overwrite()]), registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let model = model::open(registry, matches, None)?;
    let settings = settle(&model, matches)?;
    effects::check(effects::OF_UNCACHED_RUNS, matches, &settings)?;
    let settings = model.with_cache(&settings, None)?;
    let path = matches.get_one::<PathBuf>("out").cloned().unwrap_or_default();
    let bytes_needed = Recorder::estimated_bytes(&model.plan(&settings)?);
    let wanted = Recorder::wanted(&path, bytes_needed);
    let claim = claim(outputs_of(matches, &model, &settings), &wanted)?;
    let recorder = Shared::new(Recorder::create(claim, &settings)?);
    let cancel = cancel_on_interrupt();
    let mut progress = Progress::new(progress_form(matches));
    progress.phase("load", 0);
    let conditions = model.encode(&settings, &cancel)?;
    progress.suspend(|| prompt_cache::say_notices(&model));
    model.load_transformers(&settings)?;
    progress.phase("record", settings.sample_steps.get());
    let witness = Some(recorder.for_run());
    let context = RunContext { cancel, witness, ..RunContext::default() };
    let run = model.run_in(&settings, conditions, &context)?;
    drop(context);
    run.finish_with(&mut |round| progress.step(round.done, round.rounds))?;
    progress.finish();
    let size = recorder.into_inner()?.finish()?;
    say!("wrote {} ({})", path.display(), bytes(size));
    Ok(())
}
