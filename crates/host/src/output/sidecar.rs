//! The sidecar: everything needed to reproduce a video, and what its making cost.
//!
//! Written beside the video as `NAME.json`, and into its container tags. The schema is described
//! in `docs/sidecar.md`.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wan_border::files::{self, Content};
use wan_model::weights::Streamed;
use wan_model::{GENERATION, Kernels};
use wan_outputs::Claim;

use crate::checkpoint::Parts;
use crate::checkpoint::loader::WeightMemory;
use crate::denoise::expert_use::ExpertUse;
use crate::denoise::tally::{DecisionTally, FrameCount};
use crate::device::room::peak_resident_bytes;
use crate::device::{self, DeviceMemory};
use crate::error::{Error, Result};
use crate::output::plan_summary::PlanSummary;
use crate::path_text;
use crate::plugins::registry::{Chosen, Source};
use crate::request::origin::Origins;
use crate::request::settings::SettingValues;
use crate::run::Sampled;

/// Version of the schema; raised when a member changes its meaning.
pub(crate) const SCHEMA: u32 = 1;

/// Bytes that a sidecar takes, by estimate: what long runs have.
pub(crate) const SIDECAR_BYTES: u64 = 1 << 18;

/// The sidecar.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sidecar {
    /// Version of the schema; raised when a member changes its meaning.
    pub schema: u32,
    /// Version of this program.
    pub wan: String,
    /// What was asked for, defaults filled in.
    pub settings: SettingValues,
    /// Where each value came from.
    #[serde(default)]
    pub origins: Origins,
    /// Defaults that the settings were completed with; where the two differ, the request said so.
    #[serde(default)]
    pub defaults: Value,
    /// The published model that the defaults are of, by the name of its task; null where none is
    /// known.
    #[serde(default)]
    pub task: Option<String>,
    /// The model.
    pub model: ModelReport,
    /// Its transformers, and when they ran.
    #[serde(default)]
    pub experts: Vec<ExpertReport>,
    /// The sampler.
    pub sampler: StrategyReport,
    /// The cache, if any.
    pub cache: Option<StrategyReport>,
    /// Decisions of every evaluation and branch.
    pub evaluations: Vec<Value>,
    /// The same, counted.
    pub decisions: Value,
    /// Latent frames that were asked for and that were computed.
    #[serde(default)]
    pub frames: FrameCount,
    /// Sigma that each latent frame ends at, where the schedule ended early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends_at: Vec<f64>,
    /// SHA-256 of the finished latents, f32, little endian, `[1, C, F, H, W]`.
    pub latents_hash: String,
    /// Bytes held.
    pub memory: MemoryReport,
    /// Where it was computed: `cpu`, or the number and name of a GPU.
    #[serde(default = "on_the_cpu")]
    pub device: String,
    /// What computed on the CPU.
    #[serde(default)]
    pub kernels: KernelReport,
    /// Seconds per phase, in order.
    pub phases: Vec<Phase>,
    /// What had changed when the run was gone on with, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed_with: Vec<String>,
    /// The sidecar that this video was made again from with changes, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_from: Option<ChangedFrom>,
}

/// The kernels that computed on the CPU. The same ones give the same bits on every processor that has
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// As `avx512+bf16+vnni`; empty before there was a choice.
    pub name: String,
    /// Counted up when kernels change their bits; 0 before there was a choice.
    pub generation: u32,
}

impl KernelReport {
    /// Of these kernels.
    pub(crate) fn of(kernels: Kernels) -> Self {
        Self { name: kernels.name().into(), generation: GENERATION }
    }
}

impl fmt::Display for KernelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => f.write_str("an earlier generation of kernels"),
            number => write!(f, "{} kernels of generation {number}", self.name),
        }
    }
}

/// What a video is a variation of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFrom {
    /// Bare name of the sidecar.
    pub sidecar: String,
    /// Its `latents_hash`.
    pub latents_hash: String,
    /// Fields of a request that were changed.
    pub changed: Vec<String>,
}

/// Sidecars from before there was a choice.
fn on_the_cpu() -> String {
    device::describe(&Device::Cpu)
}

/// The model of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelReport {
    /// Folder; empty where every part was named by itself.
    pub path: PathBuf,
    /// Weight files of each part.
    #[serde(default)]
    pub files: Parts,
    /// See [`Family::variant`](wan_model::family::Family::variant).
    #[serde(default)]
    pub variant: String,
    /// Timestep at and above which the first of two experts runs.
    #[serde(default)]
    pub boundary_timestep: Option<f64>,
    /// See [`Checkpoint::fingerprint`](crate::checkpoint::Checkpoint::fingerprint).
    pub fingerprint: String,
}

/// A transformer of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpertReport {
    /// Its guidance scale.
    pub guidance_scale: f64,
    /// The rounds that it ran in.
    #[serde(flatten)]
    pub used: ExpertUse,
}

/// A strategy of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyReport {
    /// Its id.
    pub id: String,
    /// Package that it came from.
    pub plugin: String,
    /// Version of that package.
    pub version: String,
    /// File, unless built in.
    pub path: Option<PathBuf>,
    /// SHA-256 of the file.
    pub hash: Option<String>,
}

/// Bytes held.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MemoryReport {
    /// What the run was to hold at most, and how it was made to fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<PlanSummary>,
    /// What was read of transformers whose blocks come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streamed: Option<StreamedReport>,
    /// Weights of the model's parts.
    #[serde(default)]
    pub weights: WeightMemory,
    /// Time signals and their one row per distinct timestep.
    pub signals: Value,
    /// What the caches declared and held.
    pub cache: Value,
    /// Most that the sampler kept between rounds.
    pub sampler_bytes: u64,
    /// Most that was kept of the state before a round while the round was under way; 0 where none was.
    #[serde(default)]
    pub boundary_bytes: u64,
    /// What tensors took of the GPU at most: between rounds, and ever.
    #[serde(default)]
    pub device: Option<DeviceMemory>,
    /// Peak resident memory of the process, where the system tells.
    pub peak_resident_bytes: Option<u64>,
}

/// What was read of weights that come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamedReport {
    /// Bytes.
    pub bytes: u64,
    /// Seconds that reading took.
    pub reading_seconds: f64,
    /// Seconds of them for which the computation waited.
    pub waiting_seconds: f64,
}

impl From<Streamed> for StreamedReport {
    fn from(streamed: Streamed) -> Self {
        Self {
            bytes: streamed.bytes,
            reading_seconds: streamed.reading.as_secs_f64(),
            waiting_seconds: streamed.waiting.as_secs_f64(),
        }
    }
}

/// A phase of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Its duration.
    pub seconds: f64,
}

impl StrategyReport {
    /// Whether both are of one build of one library.
    pub(crate) fn is_same_build(&self, other: &Self) -> bool {
        let of =
            |report: &Self| (report.plugin.clone(), report.version.clone(), report.hash.clone());
        of(self) == of(other)
    }

    /// What the sidecar says of a strategy.
    pub fn of(chosen: &Chosen) -> Self {
        let Source { path, hash } = chosen.plugin.source.clone();
        let description = &chosen.plugin.description;
        Self {
            id: chosen.strategy.id.clone(),
            plugin: description.name.clone(),
            version: description.version.clone(),
            path: path.as_deref().map(path_text::readable),
            hash,
        }
    }
}

impl Sidecar {
    /// Says that these fields were changed of what another sidecar, of this name and of latents
    /// with this hash, records.
    pub fn changed_from(&mut self, name: &str, latents_hash: &str, changed: Vec<String>) {
        let (sidecar, latents_hash) = (name.into(), latents_hash.into());
        self.changed_from = Some(ChangedFrom { sidecar, latents_hash, changed });
    }

    /// Takes note of a phase that took so many seconds.
    pub fn add_phase(&mut self, name: &str, seconds: f64) {
        self.phases.push(Phase { name: name.into(), seconds });
    }
}

impl MemoryReport {
    /// What a sampling held.
    pub(crate) fn of(
        sampled: &Sampled,
        weights: WeightMemory,
        planned: Option<PlanSummary>,
    ) -> Self {
        let streamed = Some(sampled.streamed).filter(|streamed| streamed.bytes > 0);
        Self {
            planned,
            streamed: streamed.map(StreamedReport::from),
            weights,
            signals: json(&sampled.signals),
            cache: json(&sampled.cache_memory),
            sampler_bytes: sampled.sampler_bytes_max,
            boundary_bytes: sampled.boundary_bytes_max,
            device: sampled.device_memory,
            peak_resident_bytes: peak_resident_bytes(),
        }
    }

    /// Peaks may have come after the sampling.
    pub fn see_the_end(&mut self, device: &Device) {
        self.peak_resident_bytes = peak_resident_bytes();
        if let (Some(of_sampling), Some(now)) = (&mut self.device, device::memory(device)) {
            of_sampling.peak = now.peak;
        }
    }
}

/// Decisions as the sidecar has them: in all, and per branch.
pub(crate) fn decisions(decisions: &DecisionTally) -> Value {
    let branches = decisions.branches().map(|(name, count)| (name.to_string(), json(&count)));
    let mut all = json(&decisions.all());
    all["branches"] = Value::Object(branches.collect());
    all
}

/// A value that serde can always write.
pub(crate) fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// SHA-256 of latents, as [`Sidecar::latents_hash`] has it.
///
/// # Errors
/// If they cannot be read from their device.
pub(crate) fn latents_hash(latents: &Tensor) -> Result<String> {
    let values = latents.flatten_all()?.to_vec1::<f32>()?;
    let mut hash = Sha256::new();
    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    Ok(hex::encode(hash.finalize()))
}

impl Sidecar {
    /// Reads a sidecar.
    ///
    /// # Errors
    /// If it is not one, or is of another schema.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of_text(&files::text(path, Content::Report)?)
            .map_err(|why| Error::invalid(format!("{}: {why}", path.display())))
    }

    /// The sidecar that a text is, its numbers within what a run can have.
    pub(super) fn of_text(text: &str) -> std::result::Result<Self, String> {
        let sidecar: Self = files::parse_json(text).map_err(|said| {
            // A setting is named as the request has it.
            let setting = said.strip_prefix("settings.").and_then(|said| said.split_once(": "));
            match setting.and_then(|(path, why)| Some((path.rsplit('.').next()?, why))) {
                Some((field, why)) => format!("`{field}` {why}"),
                None => format!("not a sidecar of this program ({said})"),
            }
        })?;
        if sidecar.schema != SCHEMA {
            return Err(format!("schema {}, this program reads {SCHEMA}", sidecar.schema));
        }
        sidecar.settings.check_numbers().map_err(|error| error.to_string())?;
        Ok(sidecar)
    }

    /// Whether a file is a sidecar, of whatever schema.
    pub fn is_one(path: &Path) -> bool {
        let members = ["schema", "wan", "settings", "latents_hash"];
        let has_all = |value: Value| members.iter().all(|name| value.get(name).is_some());
        let is_one = |text: String| serde_json::from_str(&text).is_ok_and(has_all);
        files::text(path, Content::Report).is_ok_and(is_one)
    }

    /// Writes it.
    pub(crate) fn save_to(&self, claim: Claim) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::invalid(format!("sidecar: {e}")))?;
        claim.write(text.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_at_the_end_is_asked_for_at_the_end() {
        let mut memory = MemoryReport::default();
        assert_eq!(memory.peak_resident_bytes, None);
        memory.see_the_end(&Device::Cpu);
        assert_eq!(memory.peak_resident_bytes.is_some(), cfg!(target_os = "linux"));
    }
}
