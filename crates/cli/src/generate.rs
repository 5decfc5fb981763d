//! `wan generate`.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_host::cancel::Cancel;
use wan_host::conditions::Conditions;
use wan_host::decode::decode;
use wan_host::device::describe;
use wan_host::given::GivenFrames;
use wan_host::latents_file;
use wan_host::noise::Noise;
use wan_host::pipeline::{Pipeline, Surroundings};
use wan_host::record::DecisionCount;
use wan_host::registry::{Kind, Registry};
use wan_host::report::{
    self, ExpertReport, MemoryReport, ModelReport, Report, SCHEMA, StrategyReport,
};
use wan_host::run::Sampled;
use wan_host::settings::{Settings, StrategyChoice};
use wan_host::{Error, Result};
use wan_media::{SheetLayout, VideoFrames, evenly_spaced, psnr, write_png_sheet};
use wan_model::vae::Tiling;

use super::finish::{self, Output};
use super::reproduce::Recorded;
use super::run_settings::{cancel_on_interrupt, requested};
use super::{args, device};
use crate::progress::Progress;

/// Runs of reuses in one branch that are worth a warning.
const REUSED_IN_A_ROW_MAX: usize = 8;

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let recorded = Recorded::read(matches)?;
    let folder = args::model(matches, recorded.as_ref().map(|r| &r.report.model))?;
    let (settings, defaults) = match &recorded {
        Some(recorded) => (recorded.report.settings.clone(), recorded.defaults()),
        None => requested(registry, matches, &folder)?,
    };
    let save_file = matches.get_one::<PathBuf>("save_file").cloned();
    let output = Output::new(save_file.unwrap_or_else(|| default_name(&settings)))?;
    let device = device::chosen(matches)?;
    let cancel = cancel_on_interrupt();
    let mut progress = Progress::new(args::progress_form(matches));

    progress.phase("load", 0);
    let pipeline = Pipeline::load(&folder, &device, settings.precision)?;
    settings.latent_size(pipeline.size_rule())?;
    let given = GivenFrames::read(&settings)?;
    name_unknown_words(&pipeline, &settings);
    if let Some(recorded) = &recorded {
        recorded.check_parts(registry, pipeline.fingerprint())?;
    }
    // The encoders are gone before the transformers come.
    let conditions = pipeline.conditions(&settings, &given, &cancel)?;
    pipeline.load_transformers()?;
    let noise = Noise::new(settings.base_seed);
    let surroundings = Surroundings { registry, noise, cancel: cancel.clone(), witness: None };
    let job = Job {
        pipeline: &pipeline,
        settings: &settings,
        given: &given,
        conditions: &conditions,
        tiling: args::tiling(matches),
        cancel: &cancel,
    };
    let sampled = job.sample(&surroundings, &mut progress)?;
    sampled.notices.iter().for_each(|notice| eprintln!("wan: {notice}"));

    let mut report = report(registry, &pipeline, &settings, &sampled)?;
    (report.task, report.defaults) = (defaults.task, defaults.generate);
    report.phases = progress.phases().to_vec();
    if let Some(recorded) = &recorded {
        recorded.check_latents(&report)?;
    }
    latents_file::write(&output.latents, &sampled.latents, &report)?;
    if settings.latents_only {
        progress.finish();
        say!("wrote {}", output.latents.display());
        return Ok(());
    }
    let frames = job.decode(&sampled, &mut progress).inspect_err(|_| {
        eprintln!(
            "wan: the latents are safe; finish with: wan decode {}",
            output.latents.display()
        );
    })?;
    progress.phase("write", 0);
    progress.finish();
    report.phases = progress.phases().to_vec();
    report.memory.see_the_end(pipeline.device());
    finish::write(&output, &frames, &report)?;
    if let Some(sheet) = matches.get_one::<PathBuf>("contact_sheet") {
        write_contact_sheet(sheet, &frames)?;
    }
    if !matches.get_flag("keep_latents") {
        std::fs::remove_file(&output.latents).map_err(Error::io(&output.latents))?;
    }
    say!("{}", finish::summary(&output, &frames, &report, &sampled));
    warn_of_the_cache(&settings, &sampled);
    if matches.get_flag("cache_report") {
        job.report_cache(&surroundings, (&sampled, &frames))?;
    }
    Ok(())
}

/// Eight frames, evenly spaced.
fn write_contact_sheet(path: &Path, frames: &VideoFrames) -> Result<()> {
    let indices = evenly_spaced(frames, 8);
    let layout =
        SheetLayout { columns: indices.len(), scale: (256 / frames.width()).max(1), gap: 4 };
    Ok(write_png_sheet(path, frames, &indices, layout)?)
}

/// What is generated, and from what.
struct Job<'a> {
    pipeline: &'a Pipeline,
    settings: &'a Settings,
    given: &'a GivenFrames,
    conditions: &'a Conditions,
    tiling: Option<Tiling>,
    cancel: &'a Cancel,
}

impl Job<'_> {
    fn sample(&self, surroundings: &Surroundings<'_>, progress: &mut Progress) -> Result<Sampled> {
        progress.phase("denoise", self.settings.sample_steps as usize);
        let run = self.pipeline.run(self.settings, self.conditions.clone(), surroundings)?;
        let sampled = run.finish_with(&mut |round| {
            progress.step(round.done, round.rounds, Some(round.decisions));
        })?;
        progress.finish();
        Ok(sampled)
    }

    fn decode(&self, sampled: &Sampled, progress: &mut Progress) -> Result<VideoFrames> {
        progress.phase("decode", sampled.latents.dims()[2]);
        let decoding = self.pipeline.decode(&sampled.latents, self.tiling, self.cancel)?;
        self.given.finish(decode(decoding, &mut |done, of| progress.step(done, of, None))?)
    }

    /// Runs again without the cache; prints what the cache saved and what it cost.
    fn report_cache(
        &self,
        surroundings: &Surroundings<'_>,
        (cached, cached_frames): (&Sampled, &VideoFrames),
    ) -> Result<()> {
        let plain = Settings { cache: None, ..self.settings.clone() };
        let run = self.pipeline.run(&plain, self.conditions.clone(), surroundings)?;
        let uncached = run.finish_with(&mut |_| {})?;
        let decoding = self.pipeline.decode(&uncached.latents, self.tiling, self.cancel)?;
        let frames = self.given.finish(decode(decoding, &mut |_, _| {})?)?;
        let count = DecisionCount::of(&cached.records, None);
        say!(
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
        task: None,
        model: ModelReport {
            path: pipeline.folder().root().to_path_buf(),
            files: pipeline.folder().parts().clone(),
            variant: pipeline.variant().to_string(),
            boundary_timestep: pipeline.boundary_timestep(),
            fingerprint: pipeline.fingerprint().to_string(),
        },
        experts: pipeline
            .guidance(settings)
            .into_iter()
            .zip(sampled.experts.iter().cloned())
            .map(|(guidance_scale, used)| ExpertReport { guidance_scale, used })
            .collect(),
        sampler: strategy(Kind::Sampler, &settings.sampler)?,
        cache: settings.cache.as_ref().map(|c| strategy(Kind::Cache, c)).transpose()?,
        evaluations: sampled.records.iter().map(report::json).collect(),
        decisions: report::decisions(&sampled.records),
        ends_at: sampled.ends_at.clone(),
        latents_hash: report::latents_hash(&sampled.latents)?,
        memory: MemoryReport::of(sampled, pipeline.memory()),
        device: describe(pipeline.device()),
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
