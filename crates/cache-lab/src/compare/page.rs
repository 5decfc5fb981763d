//! `report.html`: what a person looks at.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use wan_host::Result;

use super::charts;
use super::runs::Run;
use super::summary::Summary;
use super::{Change, ComparisonReport};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.pass { color: #0a6b2d; } .fail { color: #a31515; }
img { width: 100%; image-rendering: pixelated; } svg { width: 100%; height: auto; }
code { font-size: .9em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figcaption { color: #555; }
";

/// The page.
pub(super) fn page(report: &ComparisonReport) -> Result<String> {
    let mut details = Vec::new();
    for summary in &report.candidates {
        details.push(detail(summary, &report.runs)?);
    }
    let worst = charts::saved_against_psnr(&report.candidates, "worst prompt", |s| s.worst_psnr)?;
    let mean =
        charts::saved_against_psnr(&report.candidates, "mean over prompts", |s| s.mean_psnr)?;
    let settings = &report.settings;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "wan cache compare" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Caches compared" }
                p {
                    (report.prompts.len())
                    @if report.prompts.len() == 1 { " prompt, " } @else { " prompts, " }
                    (settings.sample_steps) " steps, shift "
                    (settings.sample_shift) ", guidance " (settings.sample_guide_scale) ", "
                    (settings.width) "x" (settings.height) ", " (settings.frame_num)
                    " frames, sampler "
                    code { (settings.sampler.id) } ", seed " (settings.base_seed)
                    ". Each run is compared with the same run uncached, before encoding to video."
                }
                p {
                    "Gate: at least " (number(report.gate.saved, 1))
                    "x fewer evaluations of the blocks, and the worst prompt at "
                    (number(report.gate.worst_psnr, 0)) " dB or better."
                }
                (table(&report.candidates))
                figure { (PreEscaped(worst)) }
                figure { (PreEscaped(mean)) }
                h2 { "Candidate by candidate, on its worst prompt" }
                @for detail in &details { (detail) }
            }
        }
    };
    Ok(page.into_string())
}

fn table(summaries: &[Summary]) -> Markup {
    html! {
        table {
            tr {
                th { "candidate" } th { "saved" } th { "faster" } th { "PSNR mean" } th { "worst" }
                th { "SSIM" } th { "MS-SSIM" } th { "in a row" } th { "held" } th { "verdict" }
            }
            @for s in summaries {
                tr {
                    td { code { (s.candidate.name) } }
                    td { (number(s.saved, 2)) "x" }
                    td { (number(s.faster, 2)) "x" }
                    td { (number(s.mean_psnr, 1)) }
                    td { (number(s.worst_psnr, 1)) }
                    td { (number(s.ssim, 4)) }
                    td { (number(s.ms_ssim, 4)) }
                    td { (s.reused_in_a_row) }
                    td { (kilobytes(s.held_bytes)) }
                    td { (verdict(s)) }
                }
            }
        }
    }
}

fn verdict(summary: &Summary) -> Markup {
    html! {
        @match (&summary.candidate.change, summary.passed) {
            (Change::Steps(_), _) => { "floor" }
            (Change::Cache(_), true) => { span.pass { "pass" } }
            (Change::Cache(_), false) => { span.fail { "fail" } }
        }
    }
}

/// Pictures and curves of the candidate's worst prompt.
fn detail(summary: &Summary, runs: &[Run]) -> Result<Markup> {
    let name = &summary.candidate.name;
    let own = |r: &&Run| &r.candidate == name && r.prompt == summary.worst_prompt;
    let Some(run) = runs.iter().find(own) else { return Ok(html! {}) };
    let charts = charts::decisions(run)?;
    Ok(html! {
        h3 { code { (name) } }
        p { "Worst prompt: " em { (run.prompt) } ", " (number(run.quality.psnr, 2)) " dB" }
        figure {
            img src=(run.reference_picture) alt="uncached";
            figcaption { "uncached" }
            img src=(run.picture) alt=(name);
            figcaption { (name) }
        }
        @for (branch, map) in &run.decisions {
            p { (branch) ": " code { (map) } }
        }
        @if !charts.is_empty() {
            figure {
                @for chart in charts { (PreEscaped(chart)) }
                figcaption {
                    "Grey: reused. Against the uncached run at the same evaluation: what reuse "
                    "adds, and what the latents have drifted. The residual is what the blocks "
                    "add; a cache that keeps the model's output has none where it reuses."
                }
            }
        }
    })
}

fn number(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.1} kB", bytes as f64 / 1000.0)
}
