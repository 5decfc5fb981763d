//! One door for what is asked: flags, `wan.toml`, a JSON job and Rust make a request, and settings
//! say where each value came from.

use std::io::Write;
use std::process::{Command, Stdio};

use candle_core::Tensor;
use serde_json::{Value, json};
use wan_host::parts::RunContext;
use wan_host::{Error, Format, Origin, Request, Turn};
use wan_tests::tiny_model::TinyModel;

use crate::demo::generate;
use crate::support::{
    choice, demo_model, error_text, program, sample, short_request, sidecar, with_cache,
};

/// A short run as a job; `more` goes over it.
fn job(more: Value) -> Value {
    let mut job = json!({
        "prompt": "a small blue box rising over a beach", "frame_num": 5, "sample_steps": 3,
        "base_seed": 11, "sampler": "unipc", "cache": "teacache",
        "cache_options": { "threshold": 0.3, "retention": 1 },
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

const FLAGS: [&str; 16] = [
    "--prompt",
    "a small blue box rising over a beach",
    "--frame_num",
    "5",
    "--sample_steps",
    "3",
    "--base_seed",
    "11",
    "--sampler",
    "unipc",
    "--cache",
    "teacache",
    "--cache_option",
    "threshold=0.3",
    "--cache_option",
    "retention=1",
];

#[test]
fn a_job_and_flags_give_one_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("job.json"), job(json!({})).to_string()).unwrap();
    let by_flags = path("flags.mp4");
    generate(&by_flags, &FLAGS);
    let by_job = path("by-job.mp4");
    generate(&by_job, &["--job", path("job.json").to_str().unwrap()]);
    let (flags, job) = (sidecar(&by_flags), sidecar(&by_job));
    for member in ["settings", "origins", "defaults", "latents_hash"] {
        assert_eq!(flags[member], job[member], "{member}");
    }
    for (field, origin) in [
        ("prompt", "request"),
        ("sample_shift", "wan_toml"),
        ("context_frames", "wan"),
        ("cache_options.threshold", "request"),
        ("cache_options.retention", "request"),
        ("sampler_options.order", "strategy"),
    ] {
        assert_eq!(flags["origins"][field], origin, "{field}: {}", flags["origins"]);
    }
}

/// Runs a job from standard input.
fn piped(job: &Value, flags: &[&str]) -> std::process::Output {
    let mut child = Command::new(program())
        .args(["generate", "--job", "-", "--progress", "quiet"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_job_comes_from_standard_input_and_flags_go_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let flags = ["--save_file", video.to_str().unwrap(), "--cache", "none", "--frame_num", "9"];
    let output = piped(&job(json!({})), &flags);
    assert!(output.status.success(), "{}", error_text(&output));
    let settings = &sidecar(&video)["settings"];
    assert_eq!((&settings["frame_num"], &settings["cache"]), (&json!(9), &Value::Null));
    assert_eq!(settings["base_seed"], 11);
}

#[test]
fn a_job_that_does_not_fit_is_refused_in_one_line_that_names_the_field() {
    for (more, expected) in [
        (json!({ "frames": 5 }), "unknown field 'frames'"),
        (json!({ "frame_num": 6 }), "--frame_num 6: must be 4n+1; try 5 or 9"),
        (json!({ "frame_num": "five" }), "not a request"),
        (json!({ "size": "64" }), "--size 64: expected WIDTH*HEIGHT"),
        (json!({ "base_seed": -2 }), "--base_seed -2: must be 0 or above"),
        (json!({ "sample_shift": 0 }), "--sample_shift 0: must be 0.01 to 100"),
        (json!({ "task": "t2v-15B" }), "--task t2v-15B is not known"),
        (json!({ "cache": "none" }), "--cache_option needs a cache"),
        (json!({ "cache": "no-such" }), "there is no cache no-such"),
        (json!({ "cache_options": { "treshold": 1 } }), "treshold"),
        (json!({ "image": "/nowhere.png" }), "/nowhere.png"),
        (json!({ "last_frame": "/nowhere.png" }), "/nowhere.png"),
    ] {
        let output = piped(&job(more.clone()), &[]);
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{more}: {text}");
        assert_eq!(text.lines().count(), 1, "{more}: {text}");
        assert!(text.contains(expected), "{more}: {text}");
    }
}

#[test]
fn settings_say_where_each_value_came_from() {
    let model = demo_model();
    let settings = model.settle(&Request::new("a big red ball").base_seed(3)).unwrap();
    let origin = |field: &str| settings.origins().get(field).copied();
    assert_eq!(origin("prompt"), Some(Origin::Request));
    assert_eq!(origin("base_seed"), Some(Origin::Request));
    assert_eq!((settings.frame_num.get(), origin("frame_num")), (33, Some(Origin::WanToml)));
    assert_eq!(origin("sampler"), Some(Origin::WanToml));
    assert_eq!(origin("sampler_options.solver"), Some(Origin::WanToml));
    assert_eq!(origin("sampler_options.ar_step"), Some(Origin::Strategy));
    assert_eq!(origin("image"), None);
    // Another sampler than the folder's does not get the folder's options.
    let other = model.settle(&short_request()).unwrap();
    assert_eq!(other.origins().get("sampler_options.order"), Some(&Origin::Strategy));
    let drawn = model.settle(&Request { base_seed: Some(-1), ..short_request() }).unwrap();
    assert_eq!(drawn.origins()["base_seed"], Origin::Drawn);
    let named = model.settle(&Request { task: Some("i2v-14B".into()), ..Request::new("a ball") });
    // That task is of image-to-video models, and its size has another shift.
    let named = named.unwrap();
    assert_eq!((named.sample_steps.get(), named.origins()["sample_steps"]), (40, Origin::Task));
}

#[test]
fn errors_carry_the_field_and_whose_turn_it_is() {
    let model = demo_model();
    let error = model.settle(&short_request().frame_num(6)).unwrap_err();
    assert_eq!(error.turn(), Turn::Caller);
    assert!(matches!(error, Error::Field { field: "frame_num", .. }), "{error:?}");
    assert_eq!(error.to_string(), "`frame_num` 6: must be 4n+1; try 5 or 9");
}

#[test]
fn a_plan_is_what_the_run_takes() {
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    for request in [
        short_request(),
        with_cache(short_request(), cache),
        short_request().sampler("heun").cache("forecast"),
        Request { sample_guide_scale: Some(1.0), ..short_request() },
    ] {
        let model = demo_model();
        let settings = model.settle(&request).unwrap();
        let plan = model.plan(&settings).unwrap();
        assert!(model.memory().parts.is_empty(), "something was loaded");
        let mut rounds = 0;
        let conditions = model.encode(&settings, &Default::default()).unwrap();
        let run = model.run(&settings, conditions, &Default::default()).unwrap();
        let sampled = run.finish_with(&mut |_| rounds += 1).unwrap();
        assert_eq!(plan.rounds, rounds);
        if settings.cache.is_some() {
            assert_eq!(plan.evaluations, sampled.records.len() as u64);
        }
        assert_eq!(plan.cache_bytes_max, sampled.cache_memory.declared_max);
        let signals = sampled.signals.e_bytes + sampled.signals.e0_bytes;
        assert_eq!(plan.signal_bytes_max, signals);
        assert_eq!(plan.latent_bytes, 4 * sampled.latents.elem_count() as u64);
        assert!(plan.file_bytes["transformer"] > 1_000_000);
    }
}

#[test]
fn formats_take_turns_on_one_model() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::t2v().write(folder.path()).unwrap();
    let model = demo_model().engine().open(folder.path()).unwrap();
    let wide = Request { prompt: Some("a red ball".into()), ..short_request() };
    let narrow = Request { dtype: Some(Format::Bf16), ..wide.clone() };
    let (wide, narrow) = (model.settle(&wide).unwrap(), model.settle(&narrow).unwrap());
    let context = RunContext::default();
    let conditions = model.encode(&wide, &context.cancel).unwrap();
    let run = model.run_in(&wide, conditions.clone(), &context).unwrap();
    let busy = model.run_in(&narrow, conditions.clone(), &context).err().unwrap();
    assert!(matches!(busy, Error::Busy), "{busy}");
    let wide = run.finish_with(&mut |_| {}).unwrap();
    let run = model.run_in(&narrow, conditions, &context).unwrap();
    let narrow = run.finish_with(&mut |_| {}).unwrap();
    let differ = |a: &Tensor, b: &Tensor| (a - b).unwrap().abs().unwrap().max_all().unwrap();
    let most = differ(&wide.latents, &narrow.latents).to_scalar::<f32>().unwrap();
    assert!(most > 0.0, "both were computed in one format");
}

#[test]
fn nothing_is_generated_without_a_prompt() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::t2v().write(folder.path()).unwrap();
    let model = demo_model().engine().open(folder.path()).unwrap();
    let error = sample(&model, &Request { prompt: None, ..short_request() }).err().unwrap();
    assert_eq!(error.to_string(), "`prompt` is needed");
}
