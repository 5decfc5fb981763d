//! Flags that say how a run is kept on the disk while it goes on.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use wan_host::{
    CheckpointEvery, Error, KeptRun, Model, Result, Settings, UnfinishedRun, unfinished_runs,
};

use super::args::{flag, switch};

pub(super) fn flags() -> [Arg; 5] {
    [
        flag(
            "checkpoint_every",
            "SECONDS|round|never",
            "How often the run is written to NAME.run, from which `wan resume` goes on",
        )
        .default_value("60")
        .value_parser(|text: &str| text.parse::<CheckpointEvery>())
        .help_heading("Output"),
        switch("require_resume", "Refuse strategies whose runs cannot be resumed"),
        switch("keep_run", "Keep NAME.run when the video is written"),
        flag("stop_after", "N", "Stop after this many rounds, to be resumed later")
            .value_parser(value_parser!(u64).range(1..))
            .help_heading("Output"),
        flag("preview", "FILE.png", "After each round, write what there is to see so far as PNG")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Output"),
    ]
}

pub(super) fn every(matches: &ArgMatches) -> CheckpointEvery {
    matches.get_one("checkpoint_every").copied().unwrap_or_default()
}

pub(super) fn stop_after(matches: &ArgMatches) -> Option<usize> {
    let rounds = matches.get_one::<u64>("stop_after").copied();
    rounds.and_then(|rounds| usize::try_from(rounds).ok())
}

/// Checks that what the flags ask for can be done with these settings.
///
/// # Errors
/// If the run cannot be resumed, and has to be.
pub(super) fn check(matches: &ArgMatches, settings: &Settings) -> Result<()> {
    let is_never = every(matches) == CheckpointEvery::Never;
    for name in ["require_resume", "stop_after"] {
        let is_asked = matches.try_get_one::<bool>(name).ok().flatten() == Some(&true)
            || (name == "stop_after" && stop_after(matches).is_some());
        if !is_asked {
            continue;
        }
        if is_never {
            return Err(Error::invalid(format!(
                "`{name}` needs checkpoints; leave out `checkpoint_every`"
            )));
        }
        settings.can_be_saved()?;
    }
    Ok(())
}

/// The file that a flag names, wherever the run is gone on with.
///
/// # Errors
/// If the working directory is gone.
pub(super) fn absolute(matches: &ArgMatches, name: &str) -> Result<Option<PathBuf>> {
    let path = matches.get_one::<PathBuf>(name);
    path.map(|path| std::path::absolute(path).map_err(Error::io(Path::new(path)))).transpose()
}

/// The picture that is rewritten while the run goes on.
///
/// # Errors
/// If its name does not end in `.png`, or latents of this model cannot be shown.
pub(super) fn preview(matches: &ArgMatches, model: &Model) -> Result<Option<PathBuf>> {
    let Some(path) = absolute(matches, "preview")? else { return Ok(None) };
    if path.extension().is_none_or(|end| !end.eq_ignore_ascii_case("png")) {
        let why = format!("{}: the name must end in .png", path.display());
        return Err(Error::field("preview", why));
    }
    model.can_preview().map_err(|error| Error::field("preview", error.to_string()))?;
    Ok(Some(path))
}

/// The unfinished run of a folder, if it is one.
pub(super) fn unfinished(folder: &Path) -> Option<UnfinishedRun> {
    let runs = unfinished_runs(wan_outputs::folder_of(folder)).unwrap_or_default();
    runs.into_iter().find(|run| run.path.file_name() == folder.file_name())
}

/// After the process that worked on a run was ended: what has nothing done goes, else it is said how
/// to go on.
pub(super) fn after_a_sudden_end(folder: &Path) {
    remove_if_nothing_is_done(folder);
    if let Some(run) = unfinished(folder).filter(|run| !run.is_worked_on)
        && let Some(reached) = run.reached
    {
        note!(
            "{} of {} rounds are safe; go on with: wan resume {}",
            reached.done,
            reached.rounds,
            folder.display()
        );
    }
}

/// Removes the folder of a run that has ended before anything was done that could be lost.
pub(super) fn remove_if_nothing_is_done(folder: &Path) {
    let is_empty = |run: &UnfinishedRun| run.reached.is_none() && !run.is_worked_on;
    if unfinished(folder).is_some_and(|run| is_empty(&run))
        && let Err(error) = KeptRun::discard(folder)
    {
        note!("{} stays: {error}", folder.display());
    }
}
