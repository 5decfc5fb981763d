//! From the flags of a run to its settings.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ArgMatches;
use wan_host::cancel::Cancel;
use wan_host::defaults::Defaults;
use wan_host::given::GivenFiles;
use wan_host::model_folder::ModelFolder;
use wan_host::registry::{Kind, Registry};
use wan_host::settings::{Format, Precision, Settings, StrategyChoice, parse_size};
use wan_host::tasks::defaults_for;
use wan_host::{Error, Result};
use wan_plugin_api::Place;

use super::args;

/// Frames of a given clip that are context: SkyReels-V2's `overlap_history`.
const CONTEXT_FRAMES: usize = 17;

/// The settings that the flags ask for, and the defaults that they were completed with.
///
/// # Errors
/// For a flag that does not fit, or an unknown task or strategy.
pub(super) fn requested(
    registry: &Registry,
    matches: &ArgMatches,
    folder: &ModelFolder,
) -> Result<(Settings, Defaults)> {
    let task = matches.get_one::<String>("task").map(String::as_str);
    let defaults = sized(defaults_for(folder, task)?, matches)?;
    Ok((settings(registry, matches, &defaults)?, defaults))
}

/// The defaults that hold for the size that is asked for.
fn sized(defaults: Defaults, matches: &ArgMatches) -> Result<Defaults> {
    let size = matches.get_one::<String>("size").unwrap_or(&defaults.generate.size);
    let (width, height) = parse_size(size)?;
    Ok(Defaults { generate: defaults.generate.clone().for_size(width, height), ..defaults })
}

/// Flags over the model folder's defaults.
fn settings(registry: &Registry, matches: &ArgMatches, defaults: &Defaults) -> Result<Settings> {
    let text = |flag: &str| matches.get_one::<String>(flag).cloned();
    let number =
        |flag: &str, default: f64| matches.get_one::<f64>(flag).copied().unwrap_or(default);
    let from = &defaults.generate;
    let (width, height) = parse_size(text("size").as_ref().unwrap_or(&from.size))?;
    let prompt = text("prompt").or_else(|| from.prompt.clone());
    let sampler = text("sampler").or_else(|| from.sampler.clone());
    let sampler = sampler.map_or_else(|| first_sampler(registry), Ok)?;
    let cache = text("cache").or_else(|| from.cache.clone()).filter(|id| id != "none");
    let chosen: Vec<(Kind, &str)> =
        [(Kind::Sampler, Some(&sampler)), (Kind::Cache, cache.as_ref())]
            .into_iter()
            .filter_map(|(kind, id)| Some((kind, id?.as_str())))
            .collect();
    args::refuse_idle_flags(registry, matches, &chosen)?;
    if cache.is_none() && matches.contains_id("cache_option") {
        return Err(Error::invalid("--cache_option needs a cache; give --cache NAME"));
    }
    // A folder's options are those of its own choice.
    let own = |id: &str, default: Option<&str>, options: &wan_plugin_api::OptionValues| {
        if default == Some(id) { options.clone() } else { Default::default() }
    };
    let sampler_own = own(&sampler, from.sampler.as_deref(), &defaults.sampler_options);
    let sampler_options =
        args::given_options(registry, Kind::Sampler, &sampler, matches, sampler_own)?;
    let cache = cache
        .map(|id| {
            let cache_own = own(&id, from.cache.as_deref(), &defaults.cache_options);
            let options = args::given_options(registry, Kind::Cache, &id, matches, cache_own)?;
            Ok::<_, Error>(StrategyChoice { id, options })
        })
        .transpose()?;
    Ok(Settings {
        prompt: prompt.ok_or_else(|| Error::invalid("--prompt TEXT is needed"))?,
        negative_prompt: text("negative_prompt").unwrap_or_else(|| from.negative_prompt.clone()),
        width,
        height,
        frame_num: matches.get_one("frame_num").copied().unwrap_or(from.frame_num),
        sample_steps: matches.get_one("sample_steps").copied().unwrap_or(from.sample_steps),
        sample_shift: number("sample_shift", from.sample_shift),
        sample_guide_scale: number("sample_guide_scale", from.sample_guide_scale),
        sample_guide_scale_low: matches
            .get_one("sample_guide_scale_low")
            .copied()
            .or(from.sample_guide_scale_low),
        base_seed: seed(matches.get_one("base_seed").copied()),
        fps: number("fps", from.fps),
        sampler: StrategyChoice { id: sampler, options: sampler_options },
        cache,
        given: given_files(matches),
        precision: Precision {
            dtype: text("dtype").and_then(|name| Format::from_name(&name)).unwrap_or_default(),
            narrow_stream: matches.get_flag("narrow_stream"),
        },
        latents_only: matches.get_flag("latents_only"),
        cache_device: match text("cache_device").as_deref() {
            Some("host") => Place::Host,
            _ => Place::Device,
        },
    })
}

fn given_files(matches: &ArgMatches) -> GivenFiles {
    let path = |flag: &str| matches.get_one::<PathBuf>(flag).cloned();
    GivenFiles {
        image: path("image"),
        last_frame: path("last_frame"),
        video: path("video"),
        latents: path("latents"),
        context_frames: matches.get_one("context_frames").copied().unwrap_or(CONTEXT_FRAMES),
    }
}

/// Where neither user nor model folder name one: the first that is built in.
fn first_sampler(registry: &Registry) -> Result<String> {
    let first = registry.strategies(Kind::Sampler).next().map(|s| s.id.clone());
    first.ok_or_else(|| Error::invalid("there is no sampler; give --plugin_dir"))
}

/// The seed that was given; -1 draws one, none is 42.
fn seed(given: Option<i64>) -> u64 {
    match given {
        Some(seed) if seed >= 0 => seed as u64,
        Some(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_nanos() as u64 % (1 << 32)
        }
        None => 42,
    }
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
