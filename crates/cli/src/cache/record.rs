//! `wan cache record`.

use std::path::PathBuf;

use clap::{ArgMatches, Command, value_parser};
use wan_cache_lab::recording::Recorder;
use wan_host::Result;
use wan_host::given::GivenFrames;
use wan_host::noise::Noise;
use wan_host::pipeline::{Pipeline, Surroundings};
use wan_host::registry::Registry;
use wan_host::settings::Settings;
use wan_host::witness::Shared;

use crate::args::{self, flag};
use crate::device;
use crate::finish::bytes;
use crate::progress::Progress;
use crate::run_settings::{cancel_on_interrupt, requested};

pub(super) fn command(registry: &Registry) -> Command {
    let command = Command::new("record")
        .about("Generate without a cache and keep every evaluation, for replay and calibrate")
        .arg(
            flag("out", "FILE", "The recording (safetensors)")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help_heading("Recording"),
        );
    args::with_run_flags(command.arg(device::arg()), registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let folder = args::model(matches, None)?;
    let (settings, _) = requested(registry, matches, &folder)?;
    let settings = Settings { cache: None, ..settings };
    let path = matches.get_one::<PathBuf>("out").cloned().unwrap_or_default();
    let recorder = Shared::new(Recorder::create(&path, &settings)?);
    let device = device::chosen(matches)?;
    let cancel = cancel_on_interrupt();
    let mut progress = Progress::new(args::progress_form(matches));
    progress.phase("load", 0);
    let pipeline = Pipeline::load(&folder, &device, settings.precision)?;
    settings.latent_size(pipeline.size_rule())?;
    let given = GivenFrames::read(&settings)?;
    let noise = Noise::new(settings.base_seed);
    let witness = Some(recorder.for_run());
    let surroundings = Surroundings { registry, noise, cancel, witness };
    progress.phase("record", settings.sample_steps as usize);
    pipeline.sample(&settings, &given, &surroundings, &mut |round| {
        progress.step(round.done, round.rounds, None);
    })?;
    drop(surroundings);
    progress.finish();
    let size = recorder.into_inner()?.finish()?;
    say!("wrote {} ({})", path.display(), bytes(size));
    Ok(())
}
