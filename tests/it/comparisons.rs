//! `wan cache compare`: figures by another way, gates at their very edge, and what an interrupt
//! leaves.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use image::RgbImage;
use serde_json::{Value, json};

use crate::latents::LatentsBench;
use crate::support::{error_text, program, signal, wait_for, wan};

const SHORT: [&str; 6] = ["--frame_num", "9", "--sample_steps", "6", "--prompt", "a big red ball"];

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap()
}

fn compare(folder: &Path, flags: &[&str]) -> String {
    let base = ["cache", "compare", "--progress", "quiet", "--out", folder.to_str().unwrap()];
    let output = wan(&[&base[..], &SHORT, flags].concat());
    assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", error_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_gate_is_reached_at_its_very_edge() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // Three of six evaluations computed in both branches: exactly 2.
    let candidate = ["--candidate", "forecast:computes=[0,2,4]"];
    compare(folder, &candidate);
    let worst = report(folder)["candidates"][0]["worst_psnr"].as_f64().unwrap();
    assert_eq!(report(folder)["candidates"][0]["saved"], 2.0);
    for (saved, psnr, passed) in
        [(2.0, worst, true), (2.0, worst + 1e-6, false), (2.000001, worst, false), (1.0, 0.0, true)]
    {
        let gates = [saved.to_string(), psnr.to_string()];
        let gates = ["--gate_saved", &gates[0], "--gate_psnr", &gates[1]];
        let text = compare(folder, &[&candidate[..], &gates].concat());
        let said = &report(folder)["candidates"][0];
        assert_eq!(said["passed"], passed, "{saved} {psnr}");
        let verdict = if passed { "pass" } else { "fail" };
        let line = text.lines().find(|l| l.starts_with("forecast")).unwrap();
        assert!(line.ends_with(verdict) && line.contains("2.00x"), "{line}");
        let page = fs::read_to_string(folder.join("report.html")).unwrap();
        assert!(page.contains(&format!("<span class=\"{verdict}\">{verdict}</span>")));
    }
    assert_eq!(report(folder)["gate"], json!({ "saved": 1.0, "worst_psnr": 0.0 }));
    // Fewer steps are no cache: the floor, whatever they save.
    let text = compare(folder, &["--candidate", "steps=3"]);
    assert!(text.lines().any(|l| l.starts_with("steps=3") && l.ends_with("floor")), "{text}");
    assert_eq!(report(folder)["candidates"][0]["saved"], 2.0);
}

#[test]
fn what_an_earlier_comparison_left_is_taken_over_and_said() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(".report.json.part"), "{").unwrap();
    let out = ["--out", place.path().to_str().unwrap(), "--candidate", "steps=1"];
    let short = ["--frame_num", "5", "--sample_steps", "2", "--prompt", "a ball"];
    let output = wan(&[&["cache", "compare", "--progress", "quiet"], &out[..], &short].concat());
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(".report.json.part: took over"), "{said}");
}

/// Latents that a run of the same settings ends with, and the report of it.
fn run(flags: &[&str]) -> crate::latents::Latents {
    LatentsBench::new(&SHORT).run("run", flags)
}

#[test]
fn decisions_bytes_and_measures_are_those_of_the_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // What it measures differs between the branches.
    compare(folder, &["--candidate", "first-block:threshold=0.5,retention=2"]);
    let cache = ["--cache", "first-block", "--cache_option", "threshold=0.5"];
    let run = run(&[&cache[..], &["--cache_option", "retention=2"]].concat());
    let said = &report(folder)["runs"][0];
    for branch in ["cond", "uncond"] {
        let own = run.evaluations().iter().filter(|e| e["branch"] == branch);
        let map: String = own.map(|e| if e["choice"] == "compute" { 'C' } else { 's' }).collect();
        assert_eq!(said["decisions"][branch], map);
        assert!(map.contains('s'), "{map}");
    }
    let first = run.evaluations().iter().filter(|e| e["branch"] == "cond");
    let measured: Vec<&Value> = first.map(|e| &e["measured"]).collect();
    assert_eq!(said["measured"], json!(measured));
    let other = run.evaluations().iter().filter(|e| e["branch"] == "uncond");
    assert_ne!(json!(other.map(|e| &e["measured"]).collect::<Vec<_>>()), json!(measured));
    let memory = &run.report["memory"]["cache"];
    assert_eq!(said["declared_bytes"], memory["declared_max"]);
    assert_eq!(said["held_bytes"], memory["held_max"]);
    assert_eq!(said["computed"], run.report["decisions"]["computed"]);
    assert_eq!(said["evaluations"], 12);
    assert_eq!(said["reused_in_a_row"], run.report["decisions"]["reused_in_a_row"]);
}

fn picture(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn strips_show_eight_frames_and_errors_in_them_are_the_figures() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // Eight frames shown of nine: every frame but one.
    compare(folder, &["--candidate", "forecast:interval=2,retention=1"]);
    let said = report(folder)["runs"][0].clone();
    let strip = |name: &str| picture(&folder.join(said[name].as_str().unwrap()));
    let (cached, plain) = (strip("picture"), strip("reference_picture"));
    assert_eq!(cached.dimensions(), (8 * 64 + 7 * 2, 64));
    assert_ne!(cached, plain);
    let frame_psnr = said["quality"]["frame_psnr"].as_array().unwrap();
    for shown in 0..8usize {
        let frame = shown * 8 / 7;
        let mut squares = 0.0;
        for (x, y) in (0..64).flat_map(|x| (0..64).map(move |y| (x, y))) {
            let at = |of: &RgbImage| of.get_pixel(shown as u32 * 66 + x, y).0;
            let pairs = at(&cached).into_iter().zip(at(&plain));
            squares += pairs.map(|(a, b)| f64::from(a.abs_diff(b)).powi(2)).sum::<f64>();
        }
        let psnr = 10.0 * (255.0 * 255.0 * 3.0 * 64.0 * 64.0 / squares).log10();
        let figure = frame_psnr[frame].as_f64().unwrap();
        assert!((figure - psnr).abs() < 1e-6, "frame {frame}: {figure} and {psnr}");
    }
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    // Curves that have their points, and no number that is none.
    let lines = page.matches("<polyline").count();
    assert!(lines >= 2, "{lines} lines");
    assert!(!page.contains("NaN") && !page.contains("inf"), "a chart with numbers that are none");
    assert!(page.contains(said["picture"].as_str().unwrap()), "the worst prompt's pictures");
    check_dots(&page);
}

/// Every point of every chart lies in the chart.
fn check_dots(page: &str) {
    let number = |text: &str, name: &str| -> f64 {
        let rest = text.split(&format!("{name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let charts: Vec<&str> = page.split("<svg").skip(1).collect();
    // One point of the candidate in each of the first two; an evaluation each in the others.
    let dots: Vec<usize> = charts.iter().map(|chart| chart.matches("<circle").count()).collect();
    assert_eq!(dots[..2], [1, 1]);
    assert!(dots.len() >= 4 && dots[2..].contains(&6), "{dots:?}");
    for circle in charts.iter().flat_map(|chart| chart.split("<circle").skip(1)) {
        let (x, y) = (number(circle, "cx"), number(circle, "cy"));
        assert!((60.0..752.0).contains(&x) && (20.0..304.0).contains(&y), "a point at {x},{y}");
    }
}

#[test]
fn progress_counts_runs_and_what_is_on_file_is_not_run_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("report");
    let base = ["cache", "compare", "--progress", "json", "--out", folder.to_str().unwrap()];
    let run = |candidates: &[&str]| -> Vec<(u64, u64)> {
        let flags: Vec<&str> = candidates.iter().flat_map(|c| ["--candidate", *c]).collect();
        let output = wan(&[&base[..], &SHORT, &flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        let said = error_text(&output);
        let lines = said.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        lines.filter_map(|l| Some((l["done"].as_u64()?, l["steps"].as_u64()?))).collect()
    };
    assert_eq!(run(&["steps=2", "steps=3"]), [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(run(&["steps=2", "steps=3"]), [(2, 2)]);
    assert_eq!(run(&["steps=2", "steps=4"]), [(1, 2), (2, 2)]);
    let empty = place.path().join("prompts.txt");
    fs::write(&empty, "# nothing\n\n").unwrap();
    let prompts = ["--prompts", empty.to_str().unwrap(), "--candidate", "steps=2"];
    let output = wan(&[&base[..], &SHORT[..4], &prompts].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("there is no prompt in it"), "{}", error_text(&output));
}

#[test]
fn an_interrupted_comparison_says_that_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("report");
    let base = ["cache", "compare", "--progress", "json", "--out", folder.to_str().unwrap()];
    let many: Vec<String> = (100..160).map(|n| format!("--candidate=steps={n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut command = Command::new(program());
    command.args([&base[..], &SHORT, &many].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = wait_for(&mut child, |line| line["done"] == 1);
    signal(&child, "-INT");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("what is done is kept; the same command goes on"), "{rest}");
    assert!(rest.ends_with("wan: stopped\n"), "{rest}");
    assert!(fs::read_to_string(folder.join("runs.jsonl")).unwrap().lines().count() >= 1);
    // Another failure does not say so.
    let output = wan(&[&base[..], &SHORT, &["--candidate", "steps=2", "--fps", "500"]].concat());
    assert!(!error_text(&output).contains("goes on"), "{}", error_text(&output));
}

/// Brightness of a picture: BT.601, row by row.
struct Luma {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Luma {
    fn of(picture: &RgbImage, left: u32, (width, height): (u32, u32)) -> Self {
        let at = |(x, y): (u32, u32)| {
            let [r, g, b] = picture.get_pixel(left + x, y).0.map(f64::from);
            0.299 * r + 0.587 * g + 0.114 * b
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let values = places.map(at).collect();
        Self { width: width as usize, height: height as usize, values }
    }

    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let four = |x: usize, y: usize| {
            let at = |dx, dy| self.values[(2 * y + dy) * self.width + 2 * x + dx];
            (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4.0
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self { width, height, values: places.map(|(x, y)| four(x, y)).collect() }
    }
}

/// SSIM and its contrast-structure term, window by window as Wang et al. 2004 write it.
fn ssim(a: &Luma, b: &Luma) -> (f64, f64) {
    let weight = |i: usize, j: usize| {
        let square = (i as f64 - 5.0).powi(2) + (j as f64 - 5.0).powi(2);
        (-square / (2.0 * 1.5 * 1.5)).exp()
    };
    let sum: f64 = (0..121).map(|n| weight(n / 11, n % 11)).sum();
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let (mut all, mut structure, mut count) = (0.0, 0.0, 0.0);
    for (y, x) in (0..=a.height - 11).flat_map(|y| (0..=a.width - 11).map(move |x| (y, x))) {
        let mean = |of: &dyn Fn(usize) -> f64| -> f64 {
            let at = |n: usize| weight(n / 11, n % 11) * of((y + n / 11) * a.width + x + n % 11);
            (0..121).map(at).sum::<f64>() / sum
        };
        let (ma, mb) = (mean(&|i| a.values[i]), mean(&|i| b.values[i]));
        let va = mean(&|i| (a.values[i] - ma).powi(2));
        let vb = mean(&|i| (b.values[i] - mb).powi(2));
        let covariance = mean(&|i| (a.values[i] - ma) * (b.values[i] - mb));
        let cs = (2.0 * covariance + c2) / (va + vb + c2);
        all += cs * (2.0 * ma * mb + c1) / (ma * ma + mb * mb + c1);
        structure += cs;
        count += 1.0;
    }
    (all / count, structure / count)
}

#[test]
fn similarities_are_those_of_the_papers() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // 48 rows hold three scales of eleven pixels; 96 columns would hold four.
    let base = ["cache", "compare", "--progress", "quiet", "--out", folder.to_str().unwrap()];
    let size = ["--size", "96*48", "--frame_num", "5", "--sample_steps", "6"];
    let candidate = ["--candidate", "steps=3"];
    let output = wan(&[&base[..], &size, &candidate].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let said = report(folder)["runs"][0].clone();
    let strip = |name: &str| picture(&folder.join(said[name].as_str().unwrap()));
    let (one, other) = (strip("picture"), strip("reference_picture"));
    for frame in 0..5u32 {
        let luma = |of: &RgbImage| Luma::of(of, frame * 98, (96, 48));
        let scales: Vec<(f64, f64)> = {
            let (mut a, mut b) = (luma(&one), luma(&other));
            let mut scales = Vec::new();
            for _ in 0..3 {
                scales.push(ssim(&a, &b));
                (a, b) = (a.halved(), b.halved());
            }
            scales
        };
        let figure = |name: &str| said["quality"][name][frame as usize].as_f64().unwrap();
        assert!((figure("frame_ssim") - scales[0].0).abs() < 1e-6, "frame {frame}");
        let weights = [0.0448, 0.2856, 0.3001];
        let total: f64 = weights.iter().sum();
        let parts = [scales[0].1, scales[1].1, scales[2].0];
        let product: f64 =
            parts.iter().zip(weights).map(|(part, w)| part.max(0.0).powf(w / total)).product();
        assert!((figure("frame_ms_ssim") - product).abs() < 1e-6, "frame {frame}: {product}");
    }
    let summary = &report(folder)["candidates"][0];
    let frames = said["quality"]["frame_ssim"].as_array().unwrap().iter();
    let frames: Vec<f64> = frames.map(|f| f.as_f64().unwrap()).collect();
    let near = |name: &str, value: f64| (summary[name].as_f64().unwrap() - value).abs() < 1e-9;
    assert!(near("ssim", frames.iter().sum::<f64>() / 5.0));
    assert!(near("worst_ssim", frames.iter().copied().fold(f64::INFINITY, f64::min)));
}
