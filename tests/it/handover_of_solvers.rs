//! Two runs of one schedule, for every solver: what the first leaves, the second goes on from; and
//! what a sampler holds does not grow with the steps.

use std::path::Path;

use serde_json::{Value, json};
use wan_tests::tiny_model::TinyModel;

use crate::demo::generate;
use crate::latents::{Latents, LatentsBench};
use crate::pictures;
use crate::spied;
use crate::support::{plugin, wan};

const STEPS: [&str; 2] = ["--sample_steps", "8"];
const CUT: usize = 3;

/// Samplers that are not told to renew noise have no memory of earlier steps, or do.
const ONE_STEP: [&str; 4] = ["euler", "heun", "euler-ancestral", "lcm"];

/// All samplers that are built in.
fn samplers() -> Vec<String> {
    let output = wan(&["plugins", "list", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let built_in = list.as_array().unwrap().iter().filter(|p| p["source"]["path"].is_null());
    let ids = built_in.flat_map(|p| p["plugin"]["samplers"].as_array().unwrap());
    ids.map(|s| s["id"].as_str().unwrap().to_string()).collect()
}

fn bench(flags: &[&str]) -> LatentsBench {
    let bench = spied::bench(&[]);
    let root = bench.folder().join("model");
    TinyModel::sky_df().write(&root).unwrap();
    let model =
        ["--ckpt_dir", root.to_str().unwrap(), "--task", "df-1.3B", "--prompt", "a red ball"];
    let small = ["--negative_prompt", "a box", "--size", "64*64", "--frame_num", "13"];
    let common = [&model[..], &small, &["--cache", "none", "--sample_shift", "3"]].concat();
    bench.with_flags(&[&common[..], flags].concat())
}

/// Whole, first part, second part, of a sampler with these flags.
fn parts(bench: &LatentsBench, flags: &[&str]) -> [Latents; 3] {
    let whole = bench.run("whole", flags);
    let end = format!("end_step={CUT}");
    let first = bench.run("first", &[flags, &["--sampler_option", &end]].concat());
    let start = format!("start_step={CUT}");
    let from = bench.path("first");
    let second = ["--sampler_option", &start, "--latents", from.to_str().unwrap()];
    let second = bench.run("second", &[flags, &second].concat());
    [whole, first, second]
}

#[test]
fn a_run_that_goes_on_begins_with_its_own_clean_frames() {
    let bench = LatentsBench::new(&["--frame_num", "9", "--sample_steps", "6", "--cache", "none"]);
    let option = |option: &'static str| ["--sampler_option", option];
    let [first, other] = ["wide_64x64", "tall_64x64"].map(pictures::file);
    let noisy = bench.run("noisy", &[&["--image", &first][..], &option("end_step=3")].concat());
    let from = bench.path("noisy");
    let from = [&["--latents", from.to_str().unwrap()][..], &option("start_step=3")].concat();
    let gone_on = |picture: &str| bench.run("on", &[&["--image", picture][..], &from].concat());
    assert_eq!(gone_on(&first).bits_of(0, 1), noisy.bits_of(0, 1));
    // Another picture than the first run had: what it left of the others is gone on from.
    let clean = bench.run("whole", &["--image", &other]).bits_of(0, 1);
    assert_ne!(clean, noisy.bits_of(0, 1));
    assert_eq!(gone_on(&other).bits_of(0, 1), clean);
}

#[test]
fn one_step_samplers_give_the_bits_of_one_run_in_two() {
    let bench = bench(&STEPS);
    for sampler in ONE_STEP {
        let [whole, first, second] = parts(&bench, &["--sampler", sampler]);
        assert_eq!(second.bits(), whole.bits(), "{sampler}");
        assert_ne!(first.bits(), whole.bits(), "{sampler}");
        assert_eq!(first.report["ends_at"].as_array().unwrap().len(), 4, "{sampler}");
    }
}

/// A multistep history is not handed over: the second run is what a fresh solver makes of the last
/// rounds of the whole schedule, which the fixture runs without the options.
#[test]
fn a_fresh_solver_goes_on_from_what_every_solver_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("clip.mp4");
    generate(&source, &["--frame_num", "9", "--sample_steps", "2"]);
    let clip = ["--video", source.to_str().unwrap(), "--context_frames", "5"];
    for with_prefix in [false, true] {
        let given = if with_prefix { &clip[..] } else { &[] };
        let bench = bench(&[&STEPS[..], given].concat());
        for solver in samplers() {
            let solver = solver.as_str();
            let option = format!("solver={solver}");
            let flags = ["--sampler", "diffusion-forcing", "--sampler_option", &option];
            let flags = [&flags[..], &["--sampler_option", "timesteps=diffusers"]].concat();
            let [whole, first, second] = parts(&bench, &flags);
            let options = json!({ "solver": solver, "timesteps": "diffusers" });
            let of = json!({
                "library": plugin("diffusion-forcing"), "id": "diffusion-forcing",
                "options": options,
            });
            let of = bench.document("of", &of);
            let part = |name: &str, from: usize, to: usize, latents: &[&str]| {
                let options = [format!("of={of}"), format!("from={from}"), format!("to={to}")];
                let options: Vec<&str> =
                    options.iter().flat_map(|o| ["--sampler_option", o.as_str()]).collect();
                bench.run(name, &[&["--sampler", "part"], &options[..], latents].concat())
            };
            let early = part("early", 0, CUT, &[]);
            assert_eq!(early.bits(), first.bits(), "{solver}, prefix: {with_prefix}");
            let from = bench.path("first");
            let late = part("late", CUT, 100, &["--latents", from.to_str().unwrap()]);
            assert_eq!(late.bits(), second.bits(), "{solver}, prefix: {with_prefix}");
            let is_one_step = ONE_STEP.contains(&solver);
            let is_whole = second.bits() == whole.bits();
            assert!(is_whole || !is_one_step, "{solver}, prefix: {with_prefix}");
            // The prefix is clean in every one of them.
            let clean = if with_prefix { 2 } else { 0 };
            assert_eq!(
                first.bits_of(0, clean.max(1)) == whole.bits_of(0, clean.max(1)),
                with_prefix
            );
        }
    }
}

#[test]
fn what_a_sampler_holds_does_not_grow_with_the_steps() {
    let bench = bench(&[]);
    let mut held_something = 0;
    for sampler in samplers() {
        let bytes = |steps: &str| {
            let run = bench.run("run", &["--sampler", &sampler, "--sample_steps", steps]);
            run.report["memory"]["sampler_bytes"].as_u64().unwrap()
        };
        let (few, many) = (bytes("8"), bytes("30"));
        assert_eq!(few, many, "{sampler}");
        // Samples of four latent frames of 16 x 8 x 8 floats; nobody needs more than four.
        let sample = 4 * 16 * 8 * 8 * 4;
        assert!(many.is_multiple_of(sample) && many <= 4 * sample, "{sampler}: {many}");
        held_something += usize::from(many > 0);
    }
    assert!(held_something >= 4, "multistep solvers remember something");
}

/// Latents of a run that ended early, whose frame `frame` is said to have ended elsewhere.
fn with_another_end(path: &Path, frame: usize) {
    let mut latents = Latents::read(path);
    let end = latents.report["ends_at"][frame].as_f64().unwrap();
    latents.report["ends_at"][frame] = json!(end * 0.9);
    latents.write(path);
}

#[test]
fn every_frame_must_begin_where_it_ended() {
    let bench = bench(&STEPS);
    let first = ["--sampler", "euler", "--sampler_option", "end_step=3"];
    let path = bench.path("first");
    let second = ["--sampler", "euler", "--sampler_option", "start_step=3"];
    let second = [&second[..], &["--latents", path.to_str().unwrap()]].concat();
    for frame in 0..4 {
        bench.run("first", &first);
        with_another_end(&path, frame);
        let (code, said) = bench.try_run("second", &second);
        assert_eq!(code, Some(2), "frame {frame}: {said}");
        assert!(said.contains(&format!("frame {frame} ends at sigma")), "{said}");
    }
    bench.run("first", &first);
    bench.run("second", &second);
}
