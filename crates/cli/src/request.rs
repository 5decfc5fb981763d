//! From the flags of a run, and a job, to the request that the library completes.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_border::files::{self, Content};
use wan_host::parts::Kind;
use wan_host::{Error, Model, Request, Result, Settings};

use super::args::innermost;
use super::run_flags::{given_options, refuse_idle_flags, request_of};
pub(super) use super::stop::work as cancel_on_interrupt;
use super::wall;

/// The settings that flags and job ask for; what there is to say of them is said.
///
/// # Errors
/// For a flag or a field of the job that does not fit.
pub(super) fn settle(model: &Model, matches: &ArgMatches) -> Result<Settings> {
    settle_request(model, &request(model, matches)?)
}

/// The settings that a request asks for; what there is to say of them is said.
///
/// # Errors
/// For a field that does not fit.
pub(super) fn settle_request(model: &Model, request: &Request) -> Result<Settings> {
    let settings = model.settle(request)?;
    settings.notices().iter().for_each(|notice| note!("{notice}"));
    Ok(settings)
}

/// The flags over the job, if there is one.
///
/// # Errors
/// For a job that cannot be read, an option that does not fit, or an option of a strategy that the
/// run does not use.
pub(super) fn request(model: &Model, matches: &ArgMatches) -> Result<Request> {
    request_over(model, matches, job(matches)?)
}

/// The flags over another request.
///
/// # Errors
/// As [`request`].
pub(super) fn request_over(model: &Model, matches: &ArgMatches, job: Request) -> Result<Request> {
    let mut request = request_of(matches, job);
    let ids = model.strategies(&request)?;
    let chosen = [(Kind::Sampler, Some(&ids.sampler)), (Kind::Cache, ids.cache.as_ref())];
    let chosen: Vec<(Kind, &str)> =
        chosen.into_iter().filter_map(|(kind, id)| Some((kind, id?.as_str()))).collect();
    let registry = model.engine().registry();
    refuse_idle_flags(registry, matches, &chosen)?;
    for (kind, id) in chosen {
        let given = given_options(registry, kind, id, matches)?;
        match kind {
            Kind::Sampler => request.sampler_options.extend(given),
            Kind::Cache => request.cache_options.extend(given),
        }
    }
    if ids.cache.is_none() && matches.contains_id("cache_option") {
        return Err(Error::invalid("`cache_option` needs a cache; give `cache` NAME"));
    }
    Ok(request)
}

/// The job that standard input holds.
const STANDARD_INPUT: &str = "-";

/// Whether a command takes a job from standard input.
pub(super) fn reads_input(matches: &ArgMatches) -> bool {
    let job = innermost(matches).try_get_one::<PathBuf>("job").ok().flatten();
    job.is_some_and(|path| path == Path::new(STANDARD_INPUT))
}

/// The job that the user named: a request as JSON, in a file or on standard input.
fn job(matches: &ArgMatches) -> Result<Request> {
    let Some(path) = matches.try_get_one::<PathBuf>("job").ok().flatten() else {
        return Ok(Request::default());
    };
    let wrong = |why: String| Error::invalid(format!("`job` {}: {why}", path.display()));
    let text = if path == Path::new(STANDARD_INPUT) {
        wall::standard_input().map_err(wrong)?
    } else {
        files::text(path, Content::Settings)
            .map_err(|e| Error::about("job", format!("`job` {e}")))?
    };
    let job = format!("`job` {}: not a request", path.display());
    files::parse_json(&text).map_err(|said| Error::malformed(job, said))
}
