//! `wan-lengths`: the most that the program holds on its heap, against the length of the video. The
//! demo model by windows, decoded and written while it runs; an allocator that counts is put before
//! the system's (`tests/fixtures/c/heap.c`, Linux with glibc).
#![allow(clippy::disallowed_methods, reason = "it starts a compiler, and the program")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use wan_tests::checkout::checkout;

/// Frames of the videos.
const LENGTHS: [u32; 4] = [33, 129, 513, 2049];

/// Most bytes that the longest may take beyond the one before it.
const MORE_MAX: i64 = 1 << 20;

const WINDOWS: [&str; 7] = [
    "--sampler=diffusion-forcing",
    "--sample_steps=4",
    "--sampler_option=base_num_frames=9",
    "--sampler_option=overlap_history=5",
    "--cache=teacache",
    "--cache_option=threshold=0.3",
    "--progress=quiet",
];

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let counter = folder.path().join("heap.so");
    let source = checkout().join("tests/fixtures/c/heap.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-fPIC", "-shared", "-o"]).arg(&counter).arg(source);
    ensure!(compiler.status().context("cc")?.success(), "heap.c cannot be compiled");
    let mut most = Vec::new();
    for frames in LENGTHS {
        let bytes = held_by(frames, &counter, folder.path())?;
        println!("{frames:>5} frames: {bytes} bytes on the heap at most");
        most.push(bytes);
    }
    fs::write(checkout().join("docs/memory-of-length.svg"), plot(&most))?;
    let more = most[LENGTHS.len() - 1] - most[LENGTHS.len() - 2];
    println!("from {} to {} frames: {more} bytes more", LENGTHS[2], LENGTHS[3]);
    ensure!(more <= MORE_MAX, "more than {MORE_MAX}");
    Ok(())
}

/// Most bytes on the heap of a run of so many frames.
fn held_by(frames: u32, counter: &Path, folder: &Path) -> anyhow::Result<i64> {
    let program = std::env::current_exe()?.with_file_name("wan");
    let (video, counted) = (folder.join(format!("{frames}.mp4")), folder.join("heap"));
    let mut command = Command::new(program);
    command.args(["generate", "--frame_num", &frames.to_string(), "--save_file"]).arg(&video);
    command.args(WINDOWS).env("LD_PRELOAD", counter).env("WAN_HEAP", &counted);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::read_to_string(counted)?.trim().parse()?)
}

/// Bytes over frames, both from zero.
fn plot(most: &[i64]) -> String {
    let (width, height, left, low) = (560.0, 240.0, 60.0, 200.0);
    let (frames_max, bytes_max) = (f64::from(LENGTHS[3]), 64e6);
    let x = |frames: u32| left + f64::from(frames) / frames_max * (width - left - 40.0);
    let y = |bytes: i64| low - bytes as f64 / bytes_max * (low - 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for megabytes in [0, 20, 40, 60] {
        let at = y(megabytes * 1_000_000);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{megabytes} MB</text>",
            width - 40.0,
            left - 6.0,
            at + 4.0
        );
    }
    let points: Vec<String> = LENGTHS
        .iter()
        .zip(most)
        .map(|(frames, bytes)| format!("{:.1},{:.1}", x(*frames), y(*bytes)))
        .collect();
    let line = points.join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{line}\" fill=\"none\" stroke=\"#1f6fb2\" stroke-width=\"2\"/>"
    );
    for (frames, bytes) in LENGTHS.iter().zip(most) {
        let (x, y) = (x(*frames), y(*bytes));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#1f6fb2\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{frames}</text>",
            low + 18.0
        );
    }
    let middle = (left + width - 40.0) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">frames</text>\n</svg>",
        height - 6.0
    );
    svg
}
