//! `wan cache compare`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use wan_border::files::{self, Content};
use wan_cache_lab::compare::{
    Candidate, Change, Comparison, ComparisonReport, Summary, Thresholds,
};
use wan_host::parts::Registry;
use wan_host::{Error, Request, Result, Settings};

use crate::args::{flag, number_in, progress_form};
use crate::outputs::{outputs_of, overwrite, say_notices};
use crate::progress::Progress;
use crate::request::{cancel_on_interrupt, request, settle_request};
use crate::run_flags::with_run_flags;
use crate::{device, effects, model, prompt_cache};

/// What a gate can ask for: times, or dB.
const GATES: RangeInclusive<f64> = 0.0..=1000.0;

pub(super) fn command(registry: &Registry) -> Command {
    let own: [Arg; 5] = [
        flag("prompts", "FILE", "Prompts, one a line; else --prompt")
            .value_parser(value_parser!(PathBuf)),
        flag(
            "candidate",
            "CACHE[:OPTION=VALUE,..]",
            "What to compare; may be given more than once",
        )
        .required(true)
        .action(ArgAction::Append),
        flag("out", "DIR", "Folder of the report; a comparison goes on where it was")
            .required(true)
            .value_parser(value_parser!(PathBuf)),
        flag("gate_saved", "X", "Pass from this many times fewer evaluations [default: 1.5]")
            .value_parser(number_in(GATES)),
        flag("gate_psnr", "DB", "Pass from this PSNR of the worst prompt [default: 30]")
            .value_parser(number_in(GATES)),
    ];
    let command = Command::new("compare")
        .about("Run prompts with the cache off and with each candidate, and report")
        .after_help(
            "A value a|b|c stands for three candidates; steps=N is fewer steps without a cache.\n\n\
             Example:\n  wan cache compare --prompts prompts.txt --out report \\\n    \
             --candidate steps=8|12|16 --candidate NAME:threshold=0.1|0.2|0.3",
        )
        .args(own.map(|arg| arg.help_heading("Comparison")));
    with_run_flags(command.args([device::arg(), prompt_cache::arg(), overwrite()]), registry)
}

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let model = model::open(registry, matches, None)?;
    let written = matches.get_many::<String>("candidate").into_iter().flatten();
    let candidates = written.map(|c| Candidate::read(registry, c)).collect::<Result<Vec<_>>>()?;
    let request = request(&model, matches)?;
    let settings = settle_request(&model, &request)?;
    effects::check(effects::OF_UNCACHED_RUNS, matches, &settings)?;
    // A seed that is drawn is drawn once.
    let request = Request { base_seed: Some(settings.base_seed.cast_signed()), ..request };
    let candidates = candidates.concat();
    candidates.iter().try_for_each(|c| c.settings(&model, &settings).map(drop))?;
    let cancel = cancel_on_interrupt();
    let mut progress = Progress::new(progress_form(matches));
    let default = Thresholds::default();
    let number = |name: &str, default: f64| matches.get_one(name).copied().unwrap_or(default);
    let comparison = Comparison {
        model: &model,
        prompts: prompts(matches, &settings)?,
        request,
        candidates,
        gate: Thresholds {
            saved: number("gate_saved", default.saved),
            worst_psnr: number("gate_psnr", default.worst_psnr),
        },
        folder: matches.get_one::<PathBuf>("out").cloned().unwrap_or_default(),
        cancel,
    };
    progress.phase("compare", 0);
    let mut outputs = outputs_of(matches, &model, &settings);
    let report = comparison.run(&mut outputs, &mut |done, all| progress.step(done, all));
    say_notices(&mut outputs);
    prompt_cache::say_notices(&model);
    let report = report.inspect_err(|error| {
        if matches!(error, Error::Cancelled) {
            note!("what is done is kept; the same command goes on from there");
        }
    })?;
    progress.finish();
    print(&report);
    say!("wrote {}", comparison.folder.join("report.html").display());
    Ok(())
}

fn prompts(matches: &ArgMatches, settings: &Settings) -> Result<Vec<String>> {
    let Some(path) = matches.get_one::<PathBuf>("prompts") else {
        return Ok(vec![settings.prompt.clone()]);
    };
    let text = files::text(path, Content::Settings)?;
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let prompts: Vec<String> = lines.map(String::from).collect();
    if prompts.is_empty() {
        return Err(Error::invalid(format!("{}: there is no prompt in it", path.display())));
    }
    Ok(prompts)
}

fn print(report: &ComparisonReport) {
    let width = report.candidates.iter().map(|s| s.candidate.name.len()).max().unwrap_or(0);
    say!("{:width$}  saved faster   mean  worst   SSIM  verdict", "candidate");
    for Summary { candidate, saved, faster, mean_psnr, worst_psnr, ssim, passed, .. } in
        &report.candidates
    {
        say!(
            "{:width$}  {saved:4.2}x  {faster:4.2}x  {mean_psnr:5.1}  {worst_psnr:5.1}  {ssim:.3}  \
             {}",
            candidate.name,
            match (&candidate.change, passed) {
                (Change::Steps(_), _) => "floor",
                (Change::Cache(_), true) => "pass",
                (Change::Cache(_), false) => "fail",
            }
        );
    }
}
