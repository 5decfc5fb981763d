//! Runs of the program, and what they leave behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor};
use wan_host::Sidecar;

/// Bytes that tensors took of the GPU.
#[derive(Clone, Copy)]
pub(crate) struct DeviceBytes {
    pub(crate) held: u64,
    pub(crate) peak: u64,
}

/// Where everything lies.
pub(crate) struct Bench {
    /// Folder of the demo model.
    pub(crate) demo: PathBuf,
    /// The GPU, as `--device` takes it.
    pub(crate) device: String,
    program: PathBuf,
    folder: PathBuf,
}

/// A finished run.
pub(crate) struct Run {
    /// Latents `[1,C,F,H,W]`.
    pub(crate) latents: Tensor,
    /// Its sidecar.
    pub(crate) report: Sidecar,
    /// Its video, unless it was asked for latents only.
    pub(crate) video: PathBuf,
}

impl Bench {
    pub(crate) fn new(demo: PathBuf, device: String) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("wan");
        ensure!(program.exists(), "{} is missing", program.display());
        let folder = std::env::temp_dir().join(format!("wan-gpu-check-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { demo, device, program, folder })
    }

    /// A path for a file or folder of this check.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `wan generate` with a model, on a device.
    #[expect(clippy::disallowed_methods, reason = "the program is checked from outside")]
    pub(crate) fn run(&self, model: &Path, device: &str, flags: &[&str]) -> Result<Run> {
        let number = std::fs::read_dir(&self.folder)?.count();
        let video = self.folder.join(format!("{number:03}.mp4"));
        let output = Command::new(&self.program)
            .args(["generate", "--progress", "quiet", "--keep_latents", "--device", device])
            .arg("--ckpt_dir")
            .arg(model)
            .arg("--save_file")
            .arg(&video)
            .args(flags)
            .output()
            .with_context(|| self.program.display().to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("wan generate --device {device} {}: {}", flags.join(" "), said.trim());
        }
        let (latents, mut report) =
            Sidecar::read_latents(&video.with_extension("latents.safetensors"))?;
        if let Ok(whole) = Sidecar::read(&video.with_extension("json")) {
            report = whole;
        }
        Ok(Run { latents, report, video })
    }
}

impl Run {
    /// `|a - b| / |b|`, Euclidean.
    pub(crate) fn error_against(&self, other: &Self) -> Result<f64> {
        let norm = |t: &Tensor| t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
        Ok((norm(&(&self.latents - &other.latents)?)? / norm(&other.latents)?).sqrt())
    }

    /// Seconds of a phase.
    pub(crate) fn seconds(&self, phase: &str) -> f64 {
        let phases = self.report.phases.iter().filter(|p| p.name == phase);
        phases.map(|p| p.seconds).sum()
    }

    /// Seconds of one model evaluation with all its branches.
    pub(crate) fn seconds_per_step(&self) -> f64 {
        let rounds: usize = self.report.experts.iter().map(|e| e.used.rounds).sum();
        self.seconds("denoise") / rounds.max(1) as f64
    }

    /// What tensors took of the GPU.
    pub(crate) fn memory(&self) -> DeviceBytes {
        let memory = self.report.memory.device.unwrap_or_default();
        DeviceBytes { held: memory.held, peak: memory.peak }
    }

    /// Bytes that the cache held at most in a place, `device` or `host`.
    pub(crate) fn cache_bytes(&self, place: &str) -> u64 {
        let holdings = self.report.memory.cache["holdings"].as_array().cloned().unwrap_or_default();
        let own = holdings.iter().filter(|h| h["place"].as_str() == Some(place));
        own.filter_map(|h| h["bytes"].as_u64()).sum()
    }
}
