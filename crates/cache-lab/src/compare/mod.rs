//! `wan cache compare`: the same prompts with the cache off and with each candidate.
//!
//! Everything lies in one folder: a line per run in `runs.jsonl`, a strip of frames per run under
//! `pictures/`, and at the end `report.html` and `report.json`. A comparison that was interrupted
//! goes on where it was: what is on file for the same settings, weights and plugins is not run
//! again. One prompt's uncached run is the reference for its candidates.

mod candidate;
mod charts;
mod page;
pub mod quality;
mod runs;
mod summary;
mod trace;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use candidate::{Candidate, Change};
pub use runs::{Run, Runs};
pub use summary::{Summary, Thresholds};

use crate::shared::Shared;
use quality::Quality;
use trace::Trace;
use wan_host::parts::{DecisionCount, EvaluationRecord, RunContext};
use wan_host::{Cancel, Error, Model, Request, Result, Sampled, SettingValues, Settings};
use wan_media::{SheetLayout, VideoFrames, encode_png_sheet, evenly_spaced, is_png_sheet};
use wan_outputs::{Claim, Outputs, Wanted};
use wan_plugin_api::OptionValues;

/// A comparison.
pub struct Comparison<'a> {
    /// The model.
    pub model: &'a Model,
    /// What all runs share; prompt and cache of their own aside.
    pub request: Request,
    /// The prompts.
    pub prompts: Vec<String>,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// What a candidate must reach.
    pub gate: Thresholds,
    /// Where everything lies.
    pub folder: PathBuf,
    /// Set to stop.
    pub cancel: Cancel,
}

/// What `report.json` holds.
#[derive(Debug, Serialize)]
pub struct ComparisonReport {
    /// Settings that all runs share, without a cache; the prompt is the first one.
    pub settings: SettingValues,
    /// The prompts.
    pub prompts: Vec<String>,
    /// What a candidate must reach.
    pub gate: Thresholds,
    /// One line per candidate.
    pub candidates: Vec<Summary>,
    /// Every run, prompt by prompt.
    pub runs: Vec<Run>,
}

/// A candidate's run of one prompt.
struct Planned<'a> {
    candidate: &'a Candidate,
    settings: Settings,
    /// What it is on file by.
    key: String,
}

/// One finished sampling.
struct Sample {
    sampled: Sampled,
    frames: VideoFrames,
    trace: Trace,
}

impl Comparison<'_> {
    /// Runs what is not on file yet and writes the report among the command's `outputs`; `progress`
    /// is told runs done, of how many.
    ///
    /// # Errors
    /// If there is no prompt, a run fails or is stopped (what is done stays on file), or the folder
    /// cannot be written.
    pub fn run(
        &self,
        outputs: &mut Outputs,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ComparisonReport> {
        let pictures = self.folder.join("pictures");
        std::fs::create_dir_all(&pictures).map_err(Error::io(&pictures))?;
        // Held to the end: of two comparisons in one folder the second is refused.
        let is_ours = |report: &Path| report.with_file_name("runs.jsonl").is_file();
        let mut claim = |name| outputs.claim(&self.wanted(name, is_ours));
        let reports = [claim("report.json")?, claim("report.html")?];
        let mut runs = Runs::open(&self.folder.join("runs.jsonl"))?;
        let all = self.prompts.len() * self.candidates.len();
        let (mut done, mut keys, mut first) = (0, Vec::new(), None);
        for (number, prompt) in self.prompts.iter().enumerate() {
            // Given pictures and clips are read here, and once.
            let uncached = self.model.settle(&self.request_of(prompt))?;
            let planned = self.planned(&uncached)?;
            keys.push(planned.iter().map(|p| p.key.clone()).collect());
            first.get_or_insert_with(|| (*uncached).clone());
            let is_missing = |p: &Planned<'_>| runs.find(&p.key).is_none();
            let missing: Vec<Planned<'_>> = planned.into_iter().filter(is_missing).collect();
            done += self.candidates.len() - missing.len();
            progress(done, all);
            if missing.is_empty() {
                continue;
            }
            let reference = self.sample(&uncached)?;
            self.write_strip(outputs, &strip_name(number, None), &reference.frames)?;
            for planned in missing {
                runs.append(self.candidate_run(outputs, number, planned, &reference)?)?;
                done += 1;
                progress(done, all);
            }
        }
        let settings = first.ok_or_else(|| Error::invalid("there is no prompt to compare with"))?;
        self.report(reports, settings, &keys, &runs)
    }

    fn wanted(&self, name: &str, is_ours: fn(&Path) -> bool) -> Wanted {
        let (field, path) = ("out".into(), self.folder.join(name));
        Wanted { field, path, is_ours, bytes: 0, temporary_in: None }
    }

    /// The request for one prompt, without a cache.
    fn request_of(&self, prompt: &str) -> Request {
        let (prompt, cache) = (Some(prompt.into()), Some("none".into()));
        Request { prompt, cache, cache_options: OptionValues::new(), ..self.request.clone() }
    }

    /// The candidates' runs of the prompt that `uncached` has, in their order.
    fn planned(&self, uncached: &Settings) -> Result<Vec<Planned<'_>>> {
        let plan = |candidate| {
            let settings = Candidate::settings(candidate, self.model, uncached)?;
            Ok(Planned { candidate, key: self.key(&settings)?, settings })
        };
        self.candidates.iter().map(plan).collect()
    }

    /// What a run depends on, hashed.
    fn key(&self, settings: &Settings) -> Result<String> {
        let [sampler, cache] = settings.plugin_hashes();
        let version = env!("CARGO_PKG_VERSION");
        // Given files count by what they hold, wherever they lie.
        let mut values = (**settings).clone();
        values.given = values.given.without_paths();
        values.lora.iter_mut().for_each(|lora| lora.file = PathBuf::new());
        runs::key(&(version, self.model.fingerprint(), values, sampler, cache))
    }

    fn sample(&self, settings: &Settings) -> Result<Sample> {
        let trace = Shared::new(Trace::default());
        let context = RunContext {
            cancel: self.cancel.clone(),
            witness: Some(trace.for_run()),
            ..RunContext::default()
        };
        let sampled = self.model.sample(settings, &context)?;
        drop(context);
        let decoding = self.model.decode(settings, &sampled.latents, &self.cancel)?;
        Ok(Sample { sampled, frames: decoding.collect_frames()?, trace: trace.into_inner()? })
    }

    /// Runs a candidate on the prompt of this number, from 0.
    fn candidate_run(
        &self,
        outputs: &mut Outputs,
        prompt: usize,
        planned: Planned<'_>,
        reference: &Sample,
    ) -> Result<Run> {
        let Planned { candidate, settings, key } = planned;
        let sample = self.sample(&settings)?;
        let picture = strip_name(prompt, Some(&key));
        self.write_strip(outputs, &picture, &sample.frames)?;
        let records = &sample.sampled.records;
        let count = DecisionCount::of(records, None);
        let is_cache = matches!(candidate.change, Change::Cache(_));
        let leader = EvaluationRecord::branches(records).into_iter().next();
        let measured = records.iter().filter(|r| Some(&*r.branch) == leader);
        let memory = &sample.sampled.cache_memory;
        // Another number of steps has no evaluations to be held against one by one.
        let (velocity_errors, residual_errors) = if is_cache {
            sample.trace.errors_against(&reference.trace)?
        } else {
            Default::default()
        };
        Ok(Run {
            key,
            prompt: settings.prompt.clone(),
            candidate: candidate.name.clone(),
            evaluations: reference.trace.len(),
            computed: if is_cache { count.computed } else { sample.trace.len() },
            reused_in_a_row: count.reused_in_a_row,
            seconds: sample.sampled.seconds,
            reference_seconds: reference.sampled.seconds,
            quality: Quality::of(&sample.frames, &reference.frames),
            decisions: EvaluationRecord::branches(records)
                .into_iter()
                .map(|b| (b.to_string(), EvaluationRecord::decision_map(records, b)))
                .collect(),
            measures: sample.sampled.cache_plan.as_ref().map_or(Vec::new(), |p| p.measures.clone()),
            measured: measured.map(|r| r.measured.clone()).collect(),
            velocity_errors,
            residual_errors,
            declared_bytes: memory.declared_max,
            held_bytes: memory.held_max,
            picture: format!("pictures/{picture}"),
            reference_picture: format!("pictures/{}", strip_name(prompt, None)),
        })
    }

    /// Eight frames, evenly spaced, side by side.
    fn write_strip(&self, outputs: &mut Outputs, name: &str, frames: &VideoFrames) -> Result<()> {
        let indices = evenly_spaced(frames, 8);
        let layout = SheetLayout { columns: indices.len(), scale: 1, gap: 2 };
        let png = encode_png_sheet(frames, &indices, layout)?;
        outputs.claim(&self.wanted(&format!("pictures/{name}"), is_png_sheet))?.write(&png)?;
        Ok(())
    }

    /// Writes the report, as JSON and as a page; `keys` are those of the candidates' runs, prompt by prompt.
    fn report(
        &self,
        [json_file, page_file]: [Claim; 2],
        settings: SettingValues,
        keys: &[Vec<String>],
        runs: &Runs,
    ) -> Result<ComparisonReport> {
        let mut all = Vec::new();
        let mut candidates = Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let own = keys.iter().filter_map(|keys| runs.find(&keys[index]).cloned());
            let mut own: Vec<Run> = own.collect();
            candidates.extend(Summary::of(candidate, &own, self.gate));
            all.append(&mut own);
        }
        let report = ComparisonReport {
            settings,
            prompts: self.prompts.clone(),
            gate: self.gate,
            candidates,
            runs: all,
        };
        let json = serde_json::to_string_pretty(&report);
        let json = json.map_err(|e| Error::invalid(format!("report.json: {e}")))?;
        json_file.write(json.as_bytes())?;
        page_file.write(page::page(&report)?.as_bytes())?;
        Ok(report)
    }
}

fn strip_name(prompt: usize, key: Option<&str>) -> String {
    let key = key.map_or("reference", |k| &k[..12]);
    format!("{:03}-{key}.png", prompt + 1)
}
