//! `wan generate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use candle_core::Device;
use clap::ArgMatches;
use wan_model::vae::Tiling;
use wan_plugin_api::Place;

use super::args;
use super::finish::{self, Output};
use super::reproduce::Recorded;
use crate::error::{Error, Result};
use crate::given::{GivenFiles, GivenFrames};
use crate::latents_file;
use crate::model_folder::Defaults;
use crate::noise::Noise;
use crate::pipeline::{Pipeline, Surroundings};
use crate::progress::Progress;
use crate::psnr::psnr;
use crate::record::DecisionCount;
use crate::registry::{Kind, Registry};
use crate::report::{self, MemoryReport, ModelReport, Report, SCHEMA, StrategyReport};
use crate::sampling::Sampled;
use crate::settings::{Format, Precision, Settings, StrategyChoice, parse_size};
use crate::tasks::defaults_for;
use crate::video::{SheetLayout, VideoFrames, write_png_sheet};

/// Frames of a given clip that are context: SkyReels-V2's `overlap_history`.
const CONTEXT_FRAMES: usize = 17;

/// Runs of reuses in one branch that are worth a warning.
const REUSED_IN_A_ROW_MAX: usize = 8;

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let recorded = Recorded::read(matches)?;
    let folder = args::model(matches, recorded.as_ref().map(|r| &r.report.model))?;
    let (settings, defaults) = match &recorded {
        Some(recorded) => (recorded.report.settings.clone(), recorded.report.defaults.clone()),
        None => {
            let task = matches.get_one::<String>("task").map(String::as_str);
            let defaults = defaults_for(&folder, task)?;
            (settings(registry, matches, &defaults)?, defaults.generate)
        }
    };
    let save_file = matches.get_one::<PathBuf>("save_file").cloned();
    let output = Output::new(save_file.unwrap_or_else(|| default_name(&settings)))?;
    let cancel = cancel_on_interrupt();
    let mut progress = Progress::new(args::progress_form(matches));

    progress.phase("load", 0);
    let pipeline = Pipeline::load(&folder, &Device::Cpu, settings.precision)?;
    settings.latent_size(pipeline.size_rule())?;
    let given = GivenFrames::read(&settings)?;
    name_unknown_words(&pipeline, &settings);
    if let Some(recorded) = &recorded {
        recorded.check_parts(registry, pipeline.fingerprint())?;
    }
    let noise = Noise::new(settings.base_seed);
    let surroundings = Surroundings { registry, noise, cancel };
    let job = Job {
        pipeline: &pipeline,
        settings: &settings,
        given: &given,
        tiling: args::tiling(matches),
    };
    let sampled = job.sample(&surroundings, &mut progress)?;
    sampled.notices.iter().for_each(|notice| eprintln!("wan: {notice}"));

    let mut report = report(registry, &pipeline, &settings, &sampled)?;
    report.defaults = defaults;
    if let Some(recorded) = &recorded {
        recorded.check_latents(&report)?;
    }
    latents_file::write(&output.latents, &sampled.latents, &report)?;
    let frames = job.decode(&sampled, &mut progress).inspect_err(|_| {
        eprintln!(
            "wan: the latents are safe; finish with: wan decode {}",
            output.latents.display()
        );
    })?;
    progress.phase("write", 0);
    progress.finish();
    report.phases = progress.phases().to_vec();
    report.memory.peak_resident_bytes = report::peak_resident_bytes();
    finish::write(&output, &frames, &report)?;
    if let Some(sheet) = matches.get_one::<PathBuf>("contact_sheet") {
        write_contact_sheet(sheet, &frames)?;
    }
    if !matches.get_flag("keep_latents") {
        std::fs::remove_file(&output.latents).map_err(Error::io(&output.latents))?;
    }
    println!("{}", finish::summary(&output, &frames, &report, &sampled));
    warn_of_the_cache(&settings, &sampled);
    if matches.get_flag("cache_report") {
        job.report_cache(&surroundings, (&sampled, &frames))?;
    }
    Ok(())
}

/// Eight frames, evenly spaced.
fn write_contact_sheet(path: &Path, frames: &VideoFrames) -> Result<()> {
    let shown = frames.frames().min(8);
    let indices: Vec<usize> =
        (0..shown).map(|i| i * (frames.frames() - 1) / (shown - 1).max(1)).collect();
    let layout = SheetLayout { columns: shown, scale: (256 / frames.width()).max(1), gap: 4 };
    Ok(write_png_sheet(path, frames, &indices, layout)?)
}

/// What is generated, and from what.
struct Job<'a> {
    pipeline: &'a Pipeline,
    settings: &'a Settings,
    given: &'a GivenFrames,
    tiling: Option<Tiling>,
}

impl Job<'_> {
    fn sample(&self, surroundings: &Surroundings<'_>, progress: &mut Progress) -> Result<Sampled> {
        progress.phase("denoise", self.settings.sample_steps as usize);
        let sampled =
            self.pipeline.sample(self.settings, self.given, surroundings, &mut |round| {
                progress.step(round.done, round.rounds, Some(round.decisions));
            })?;
        progress.finish();
        Ok(sampled)
    }

    fn decode(&self, sampled: &Sampled, progress: &mut Progress) -> Result<VideoFrames> {
        progress.phase("decode", sampled.latents.dims()[2]);
        let decoded = self.pipeline.decode(&sampled.latents, self.tiling, &mut |done, of| {
            progress.step(done, of, None);
        })?;
        self.given.finish(decoded)
    }

    /// Runs again without the cache; prints what the cache saved and what it cost.
    fn report_cache(
        &self,
        surroundings: &Surroundings<'_>,
        (cached, cached_frames): (&Sampled, &VideoFrames),
    ) -> Result<()> {
        let plain = Settings { cache: None, ..self.settings.clone() };
        let uncached = self.pipeline.sample(&plain, self.given, surroundings, &mut |_| {})?;
        let frames = self.given.finish(self.pipeline.decode(
            &uncached.latents,
            self.tiling,
            &mut |_, _| {},
        )?)?;
        let count = DecisionCount::of(&cached.records, None);
        println!(
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

/// `a-big-red-ball-moving-right_42.mp4`
fn default_name(settings: &Settings) -> PathBuf {
    let words: Vec<String> = settings
        .prompt
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .take(6)
        .map(str::to_lowercase)
        .collect();
    let stem = if words.is_empty() { "video".into() } else { words.join("-") };
    Path::new(&format!("{stem}_{}.mp4", settings.base_seed)).to_path_buf()
}

fn cancel_on_interrupt() -> Arc<AtomicBool> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let handler = ctrlc::set_handler(move || {
        // A second interrupt does not wait for the round to end.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nwan: stopping after this round; interrupt again to stop at once");
    });
    if let Err(error) = handler {
        tracing::warn!(%error, "interrupts will not be caught");
    }
    cancel
}

fn name_unknown_words(pipeline: &Pipeline, settings: &Settings) {
    for prompt in [&settings.prompt, &settings.negative_prompt] {
        if let Some(words) = pipeline.prompts().unknown_words(prompt) {
            eprintln!(
                "wan: this model does not know: {}; it knows: {}",
                words.unknown.join(", "),
                words.known.join(", ")
            );
        }
    }
}

fn report(
    registry: &Registry,
    pipeline: &Pipeline,
    settings: &Settings,
    sampled: &Sampled,
) -> Result<Report> {
    let strategy = |kind, choice: &StrategyChoice| -> Result<_> {
        Ok(StrategyReport::of(&registry.choose(kind, &choice.id, &choice.options)?))
    };
    Ok(Report {
        schema: SCHEMA,
        wan: env!("CARGO_PKG_VERSION").into(),
        settings: settings.clone(),
        defaults: Default::default(),
        model: ModelReport {
            path: pipeline.folder().root().to_path_buf(),
            files: pipeline.folder().parts().clone(),
            fingerprint: pipeline.fingerprint().to_string(),
        },
        sampler: strategy(Kind::Sampler, &settings.sampler)?,
        cache: settings.cache.as_ref().map(|c| strategy(Kind::Cache, c)).transpose()?,
        evaluations: sampled.records.iter().map(report::json).collect(),
        decisions: report::decisions(&sampled.records),
        latents_hash: report::latents_hash(&sampled.latents)?,
        memory: MemoryReport::of(sampled),
        phases: Vec::new(),
    })
}

fn warn_of_the_cache(settings: &Settings, sampled: &Sampled) {
    let Some(cache) = &settings.cache else { return };
    let count = DecisionCount::of(&sampled.records, None);
    if count.reused == 0 {
        eprintln!(
            "wan: {} never reused anything; raise its threshold or use --cache none",
            cache.id
        );
    }
    if count.reused_in_a_row > REUSED_IN_A_ROW_MAX {
        eprintln!(
            "wan: {} reused {} evaluations in a row; look at the picture",
            cache.id, count.reused_in_a_row
        );
    }
}
