//! `wan-full-size`: files of full size with random weights, and runs of the program on them under
//! limits of memory.
//!
//! The transformer of Wan 2.1 14B in bf16 and in Q4_K, UMT5-XXL and the VAE in bf16, under the
//! names and in the shapes of the published files. Numbers are those of one block, repeated with a
//! shift for each tensor. One evaluation of one branch, 832x480, 5 frames; the most resident memory is
//! the sidecar's. Takes 55 GB of disk and most of an hour on two cores.
#![allow(clippy::disallowed_methods, reason = "it starts the program")]

mod numbers;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use wan_host::{Residency, Sidecar};
use wan_model::WanConfig;
use wan_model::published::find;

use write::{Form, write_model};

/// Layers of the cut that streamed and resident runs are compared on.
const CUT: usize = 4;

/// Peak over the limit at most: what the process holds beside what is planned.
const OVER_MAX: f64 = 1.1;

const GIB: f64 = (1u64 << 30) as f64;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("wan-full-size DIR")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let whole = find("t2v-14B").context("it is published")?.transformer.clone();
    let cut = WanConfig { num_layers: CUT, ..whole.clone() };
    println!("| model | file | limit | read for its turn | peak | over the limit | seconds |");
    println!("|---|---|---|---|---|---|---|");
    for (form, limit) in [(Form::Q4K, "12GiB"), (Form::Bf16, "8GiB")] {
        compare_cut(&folder, &cut, form)?;
        let model = folder.join("model");
        write_model(&model, &whole, form)?;
        let run = generate(&model, &["--max_memory", limit])?;
        run.print(&format!("T2V-14B {}", form.name()), &model, limit)?;
        let bytes = limit.trim_end_matches("GiB").parse::<f64>()? * GIB;
        let over = run.peak()? / bytes;
        ensure!(over <= OVER_MAX, "{over:.2} times the limit");
        // The two do not fit a common disk.
        fs::remove_dir_all(model.join("transformer"))?;
    }
    Ok(())
}

/// Runs the cut with all blocks in memory, and with all read for their turn.
fn compare_cut(folder: &Path, cut: &WanConfig, form: Form) -> Result<()> {
    let model = folder.join("model");
    write_model(&model, cut, form)?;
    let resident = generate(&model, &[])?;
    let streamed = generate(&model, &["--max_memory", "3GiB"])?;
    resident.print(&format!("{CUT} layers of it, {}", form.name()), &model, "-")?;
    streamed.print(&format!("{CUT} layers of it, {}", form.name()), &model, "3GiB")?;
    ensure!(streamed.residency()?.streamed_blocks > 0, "nothing was read for its turn");
    ensure!(resident.report.latents_hash == streamed.report.latents_hash, "other latents");
    fs::remove_dir_all(model.join("transformer"))?;
    Ok(())
}

/// A run of the program, and what its sidecar says.
struct Run {
    report: Sidecar,
    seconds: f64,
}

/// One evaluation of one branch at 832x480, 5 frames.
fn generate(model: &Path, flags: &[&str]) -> Result<Run> {
    let program = std::env::current_exe()?.with_file_name("wan");
    let latents = model.join("out.latents.safetensors");
    let started = Instant::now();
    let output = Command::new(program)
        .args(["generate", "--ckpt_dir"])
        .arg(model)
        .args(["--prompt", "a big red ball moving right over a meadow", "--size", "832*480"])
        .args(["--frame_num", "5", "--sample_steps", "1", "--sample_guide_scale", "1"])
        .args(["--sampler", "euler", "--cache", "none", "--latents_only", "--base_seed", "7"])
        .args(["--dtype", "f32", "--device", "cpu", "--overwrite", "--no_prompt_cache"])
        .args(["--checkpoint_every", "never", "--progress", "quiet"])
        .args(["--save_file"])
        .arg(model.join("out.mp4"))
        .args(flags)
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let seconds = started.elapsed().as_secs_f64();
    let (_, report) = Sidecar::read_latents(&latents)?;
    Ok(Run { report, seconds })
}

impl Run {
    fn peak(&self) -> Result<f64> {
        let bytes = self.report.memory.peak_resident_bytes.context("no peak in the sidecar")?;
        Ok(bytes as f64)
    }

    /// What of the model was in memory, and when.
    fn residency(&self) -> Result<Residency> {
        let planned = self.report.memory.planned.as_ref().context("no plan in the sidecar")?;
        Ok(planned.residency)
    }

    /// A line of the table.
    fn print(&self, name: &str, model: &Path, limit: &str) -> Result<()> {
        let files = fs::read_dir(model.join("transformer"))?;
        let bytes: u64 = files.map(|f| Ok(f?.metadata()?.len())).sum::<Result<u64>>()?;
        let Residency { streamed_blocks, streamed_text_layers, .. } = self.residency()?;
        let over = match limit.strip_suffix("GiB") {
            Some(limit) => format!("{:.2}", self.peak()? / GIB / limit.parse::<f64>()?),
            None => "-".into(),
        };
        println!(
            "| {name} | {:.1} GiB | {limit} | {streamed_blocks} blocks, {streamed_text_layers} text layers | {:.2} GiB | {over} | {:.0} |",
            bytes as f64 / GIB,
            self.peak()? / GIB,
            self.seconds
        );
        Ok(())
    }
}
