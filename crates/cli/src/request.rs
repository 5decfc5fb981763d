//! From the flags of a run, and a job, to the request that the library completes.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_host::parts::Kind;
use wan_host::{Cancel, Error, Format, FrameSource, Model, Request, Result, Settings};
use wan_plugin_api::{OptionValues, Place};

use super::run_flags::{given_options, refuse_idle_flags};

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
    settings.notices().iter().for_each(|notice| eprintln!("wan: {notice}"));
    Ok(settings)
}

/// The flags over the job, if there is one.
///
/// # Errors
/// For a job that cannot be read, an option that does not fit, or an option of a strategy that the
/// run does not use.
pub(super) fn request(model: &Model, matches: &ArgMatches) -> Result<Request> {
    let job = job(matches)?;
    let mut request = over(matches, job);
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

/// The job that the user named: a request as JSON, in a file or on standard input.
fn job(matches: &ArgMatches) -> Result<Request> {
    let Some(path) = matches.try_get_one::<PathBuf>("job").ok().flatten() else {
        return Ok(Request::default());
    };
    let wrong = |why: String| Error::invalid(format!("`job` {}: {why}", path.display()));
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| wrong(e.to_string()))?;
    let job = format!("`job` {}: not a request", path.display());
    serde_json::from_str(&text).map_err(|e| Error::malformed(job, e))
}

/// What the flags say, else what the job says. Options of strategies are those of the job alone.
fn over(matches: &ArgMatches, job: Request) -> Request {
    let text = |flag: &str| matches.get_one::<String>(flag).cloned();
    let number = |flag: &str| matches.get_one::<f64>(flag).copied();
    let path = |flag: &str| matches.get_one::<PathBuf>(flag).cloned();
    let frames = |flag: &str| path(flag).map(FrameSource::from);
    // Some commands decode nothing.
    let switch = |flag: &str| matches.try_get_one::<bool>(flag).ok().flatten().filter(|on| **on);
    let (sampler, cache) = (text("sampler"), text("cache"));
    // Options of a strategy that a flag has replaced are not for the new one.
    let kept = |flag: &Option<String>, own: &Option<String>, options: OptionValues| match flag {
        Some(_) if flag != own => OptionValues::new(),
        _ => options,
    };
    Request {
        sampler_options: kept(&sampler, &job.sampler, job.sampler_options),
        cache_options: kept(&cache, &job.cache, job.cache_options),
        prompt: text("prompt").or(job.prompt),
        negative_prompt: text("negative_prompt").or(job.negative_prompt),
        task: text("task").or(job.task),
        size: text("size").or(job.size),
        frame_num: matches.get_one("frame_num").copied().or(job.frame_num),
        fps: number("fps").or(job.fps),
        base_seed: matches.get_one("base_seed").copied().or(job.base_seed),
        sample_steps: matches.get_one("sample_steps").copied().or(job.sample_steps),
        sample_shift: number("sample_shift").or(job.sample_shift),
        sample_guide_scale: number("sample_guide_scale").or(job.sample_guide_scale),
        sample_guide_scale_low: number("sample_guide_scale_low").or(job.sample_guide_scale_low),
        sampler: sampler.or(job.sampler),
        cache: cache.or(job.cache),
        cache_device: text("cache_device").map(|place| place_of(&place)).or(job.cache_device),
        image: frames("image").or(job.image),
        last_frame: frames("last_frame").or(job.last_frame),
        video: frames("video").or(job.video),
        context_frames: matches.get_one("context_frames").copied().or(job.context_frames),
        latents: path("latents").or(job.latents),
        latents_only: switch("latents_only").copied().or(job.latents_only),
        dtype: text("dtype").and_then(|name| Format::from_name(&name)).or(job.dtype),
        narrow_stream: switch("narrow_stream").copied().or(job.narrow_stream),
        vae_tiling: switch("vae_tiling").copied().or(job.vae_tiling),
    }
}

fn place_of(name: &str) -> Place {
    if name == "host" { Place::Host } else { Place::Device }
}

/// Set at the first interrupt; the second ends the program.
pub(super) fn cancel_on_interrupt() -> Cancel {
    let cancel = Cancel::default();
    let flag = cancel.clone();
    let handler = ctrlc::set_handler(move || {
        // A second interrupt does not wait for the round to end.
        if flag.cancel() {
            std::process::exit(130);
        }
        eprintln!("\nwan: stopping after this round; interrupt again to stop at once");
    });
    if let Err(error) = handler {
        tracing::warn!(%error, "interrupts will not be caught");
    }
    cancel
}
