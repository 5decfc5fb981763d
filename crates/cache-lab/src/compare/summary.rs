//! A candidate over all prompts, and whether it may be used.

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, Change};
use super::runs::Run;

/// What a candidate must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Evaluations of the reference over those computed, mean over prompts.
    pub saved: f64,
    /// PSNR of the worst prompt, dB.
    pub worst_psnr: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { saved: 1.5, worst_psnr: 30.0 }
    }
}

/// One candidate over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The candidate.
    pub candidate: Candidate,
    /// Prompts that were run.
    pub prompts: usize,
    /// Evaluations of the reference over those computed, mean.
    pub saved: f64,
    /// Seconds of the reference over those taken, mean.
    pub faster: f64,
    /// Mean PSNR over prompts, dB.
    pub mean_psnr: f64,
    /// PSNR of the worst prompt, dB.
    pub worst_psnr: f64,
    /// The worst prompt.
    pub worst_prompt: String,
    /// Mean SSIM over all frames.
    pub ssim: f64,
    /// SSIM of the worst frame.
    pub worst_ssim: f64,
    /// Mean MS-SSIM over all frames.
    pub ms_ssim: f64,
    /// Longest run of reuses.
    pub reused_in_a_row: usize,
    /// Most bytes held, all branches.
    pub held_bytes: u64,
    /// Whether it reached the gate.
    pub passed: bool,
}

impl Summary {
    /// Sums up; none where nothing was run.
    pub fn of(candidate: &Candidate, runs: &[Run], gate: Thresholds) -> Option<Self> {
        let worst = runs.iter().min_by(|a, b| a.quality.psnr.total_cmp(&b.quality.psnr))?;
        let mean = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let frames = || runs.iter().flat_map(|r| &r.quality.frame_ssim).copied();
        let saved = mean(&|r| r.evaluations as f64 / r.computed.max(1) as f64);
        let worst_psnr = worst.quality.psnr;
        Some(Self {
            candidate: candidate.clone(),
            prompts: runs.len(),
            saved,
            faster: mean(&|r| r.reference_seconds / r.seconds.max(1e-9)),
            mean_psnr: mean(&|r| r.quality.psnr),
            worst_psnr,
            worst_prompt: worst.prompt.clone(),
            ssim: frames().sum::<f64>() / frames().count().max(1) as f64,
            worst_ssim: frames().fold(f64::INFINITY, f64::min),
            ms_ssim: mean(&|r| {
                let frames = &r.quality.frame_ms_ssim;
                frames.iter().sum::<f64>() / frames.len().max(1) as f64
            }),
            reused_in_a_row: runs.iter().map(|r| r.reused_in_a_row).max().unwrap_or(0),
            held_bytes: runs.iter().map(|r| r.held_bytes).max().unwrap_or(0),
            passed: saved >= gate.saved && worst_psnr >= gate.worst_psnr,
        })
    }

    /// The cache, or `fewer steps`: what belongs on one line of a plot.
    pub fn family(&self) -> &str {
        match &self.candidate.change {
            Change::Cache(choice) => &choice.id,
            Change::Steps(_) => "fewer steps",
        }
    }
}
