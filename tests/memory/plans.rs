//! Plans against what is measured, phase by phase.

use serde_json::json;
use wan_host::{
    Bytes, Cancel, DecodingTime, DeviceChoice, Engine, Format, FrameSource, HandedOut, Plan,
    Request, Settings,
};
use wan_media::VideoFrames;
use wan_plugin_api::Place;
use wan_tests::allocator;
use wan_tests::tiny_model::TinyModel;

use crate::{alone, most_above};

wan_plugin_api::plugin! {
    struct Linked {
        samplers: [wan_diffusion_forcing::DiffusionForcing<wan_diffusion_forcing::AnyBuiltIn>],
        caches: [wan_cache::TeaCache, wan_cache::Forecast, wan_cache::FirstBlockCache]
    }
}

/// What a plan may err by, whatever it says.
const MIB: u64 = 1 << 20;

/// A setting of the table.
struct Case {
    name: &'static str,
    model: fn() -> TinyModel,
    request: fn(Request) -> Request,
}

fn case(name: &'static str, model: fn() -> TinyModel, request: fn(Request) -> Request) -> Case {
    Case { name, model, request }
}

fn forcing(request: Request) -> Request {
    request.sampler("diffusion-forcing")
}

fn long(request: Request) -> Request {
    let options = json!({ "base_num_frames": 9, "overlap_history": 5 });
    let sampler_options = serde_json::from_value(options).unwrap();
    Request { sampler_options, ..forcing(request).frame_num(21) }
}

/// A request that may take so many bytes above what the process has now.
fn limited(request: Request, bytes: u64) -> Request {
    Request { max_memory: Some(Bytes(resident() + bytes)), ..request }
}

/// The table: sizes, lengths, formats, caches, samplers, tiles, experts, windows, given pictures.
fn cases() -> Vec<Case> {
    let t2v: fn() -> TinyModel = || TinyModel::t2v().middling();
    let df: fn() -> TinyModel = || TinyModel::sky_df().middling();
    vec![
        case("64x64, 9 frames", t2v, |r| r),
        case("64x64, 17 frames", t2v, |r| r.frame_num(17)),
        case("128x96", t2v, |r| r.size(128, 96)),
        case("192x128", t2v, |r| r.size(192, 128).sample_steps(1)),
        case("128x128, 33 frames", t2v, |r| r.size(128, 128).frame_num(33).sample_steps(1)),
        case("bf16", t2v, |r| Request { dtype: Some(Format::Bf16), ..r.size(128, 96) }),
        case("f16", t2v, |r| Request { dtype: Some(Format::F16), ..r.size(128, 96) }),
        case("bf16, narrow stream", t2v, |r| Request {
            dtype: Some(Format::Bf16),
            narrow_stream: Some(true),
            ..r.size(128, 96)
        }),
        case("without guidance", t2v, |r| Request {
            sample_guide_scale: Some(1.0),
            ..r.size(128, 96)
        }),
        case("euler", t2v, |r| r.sampler("euler").size(128, 96)),
        case("heun", t2v, |r| r.sampler("heun").size(128, 96)),
        case("dpm++", t2v, |r| r.sampler("dpm++").size(128, 96)),
        case("teacache", t2v, |r| r.cache("teacache").size(128, 96)),
        case("forecast", t2v, |r| r.cache("forecast").size(128, 96)),
        case("first-block", t2v, |r| r.cache("first-block").size(128, 96)),
        case("tiles", t2v, |r| Request {
            vae_tiling: Some(true),
            ..r.size(320, 96).frame_num(5).sample_steps(1)
        }),
        case("VAE in bf16", t2v, |r| Request { vae_dtype: Some(Format::Bf16), ..r.size(128, 96) }),
        case("two experts", || TinyModel::t2v_a14b().middling(), |r| r.size(128, 96)),
        case("TI2V", || TinyModel::ti2v_5b().middling(), |r| r.size(128, 128)),
        case("diffusion forcing", df, |r| forcing(r).size(128, 96)),
        case("windows", df, long),
        case("windows and a cache", df, |r| long(r).cache("teacache")),
        case(
            "a picture, with tokens",
            || TinyModel::i2v().middling(),
            |r| r.image(picture()).size(128, 96),
        ),
        case(
            "a picture, in channels",
            || TinyModel::i2v_a14b().middling(),
            |r| r.image(picture()).size(128, 96),
        ),
        case("a clean first frame", df, |r| forcing(r).image(picture()).size(128, 96)),
    ]
}

fn picture() -> FrameSource {
    let rgb = (0..96 * 64).flat_map(|pixel| [(pixel % 96) as u8, (pixel / 96) as u8, 90]);
    VideoFrames::new(96, 64, rgb.collect()).unwrap().into()
}

fn request() -> Request {
    Request::new("a red ball")
        .size(64, 64)
        .frame_num(9)
        .sample_steps(2)
        .sampler("unipc")
        .base_seed(7)
}

/// What each step of a run held at most.
struct Measured {
    encode: u64,
    denoise: u64,
    decode: u64,
}

/// Runs a request step by step, as programs do.
fn measure(case: &Case) -> (Settings, Plan, Measured) {
    let folder = tempfile::tempdir().unwrap();
    (case.model)().write(folder.path()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).plugin::<Linked>().build().unwrap();
    let model = engine.open(folder.path()).unwrap();
    let settings = model.settle(&(case.request)(request())).unwrap();
    let idle = allocator::begin();
    let (settings, plan) = model.fit(settings).unwrap();
    let cancel = Cancel::default();
    let (conditions, encode) = most_above(idle, || model.encode(&settings, &cancel).unwrap());
    // As the program goes: what is done is decoded between the windows, or in the end.
    let mut decoder = model.decoder(&settings, &cancel).unwrap();
    let mut frames = 0;
    let mut decode = |out: &HandedOut| {
        while let Some(given) = decoder.next_in_front() {
            frames += given.unwrap().frames();
        }
        for (latents, _) in &out.frames {
            frames += decoder.decode(latents).unwrap().frames();
        }
        if settings.residency().decoding != DecodingTime::Kept {
            decoder.rest();
        }
    };
    let (rest, denoise) = most_above(idle, || {
        model.load_transformers(&settings).unwrap();
        let mut run = model.run(&settings, conditions, &cancel).unwrap();
        while run.round_wait().unwrap().is_some() && !run.is_done() {
            let out = run.hand_out().unwrap();
            decode(&out);
        }
        run.hand_out().unwrap()
    });
    model.release_transformers();
    let ((), decoding) = most_above(idle, || decode(&rest));
    assert_eq!(frames, settings.video_frames(), "{}", case.name);
    let decode = decoding;
    (settings, plan, Measured { encode, denoise, decode })
}

/// The most that the phases of a step hold: what is decoded between windows belongs to denoising.
fn planned(plan: &Plan, step: &str) -> u64 {
    let is_of = |name: &str| match name {
        "decode between windows" => step == "denoise",
        "decode" => step == "decode",
        other => other.starts_with(step),
    };
    let phases = plan.phases.iter().filter(|phase| is_of(phase.name));
    phases.map(|phase| phase.bytes(Place::Device)).max().unwrap()
}

#[test]
fn a_run_holds_what_its_plan_says() {
    let _alone = alone();
    let mut wrong = Vec::new();
    // What a process makes once, such as tables and threads, is in no plan.
    measure(&cases()[0]);
    for case in cases() {
        let (_, plan, measured) = measure(&case);
        let steps = [
            ("encode", measured.encode),
            ("denoise", measured.denoise),
            ("decode", measured.decode),
        ];
        let all = plan.peak(Place::Device).unwrap().1;
        let most = steps.iter().map(|(_, bytes)| *bytes).max().unwrap();
        for (step, found, said) in steps
            .map(|(step, found)| (step, found, planned(&plan, step)))
            .into_iter()
            .chain([("peak", most, all)])
        {
            let line = format!(
                "{:24} {step:8} planned {:8.2} MiB, measured {:8.2} MiB, {:.3}",
                case.name,
                said as f64 / MIB as f64,
                found as f64 / MIB as f64,
                found as f64 / said as f64
            );
            println!("{line}");
            let is_close = found.abs_diff(said) <= MIB.max(said / 10);
            if !is_close || found > said + MIB {
                wrong.push(format!("{line}\n{:#?}", plan.phases));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Latents of a run that holds no more than so many bytes above what the process holds anyway.
fn latents_and_most(limit: Option<u64>) -> (Vec<f32>, u64, Plan) {
    let case = Case { name: "limited", model: || TinyModel::t2v_a14b().middling(), request: |r| r };
    let folder = tempfile::tempdir().unwrap();
    (case.model)().write(folder.path()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).build().unwrap();
    let model = engine.open(folder.path()).unwrap();
    let request = request();
    let request = limit.map_or_else(|| request.clone(), |bytes| limited(request.clone(), bytes));
    let settings = model.settle(&request).unwrap();
    let idle = allocator::begin();
    let (settings, plan) = model.fit(settings).unwrap();
    let ((pixels, latents), most) = most_above(idle, || {
        let cancel = Cancel::default();
        let conditions = model.encode(&settings, &cancel).unwrap();
        model.load_transformers(&settings).unwrap();
        let run = model.run(&settings, conditions, &cancel).unwrap();
        let sampled = run.finish_with(&mut |_| {}).unwrap();
        model.release_transformers();
        let decoding = model.decode(&settings, &sampled.latents, &cancel).unwrap();
        let pixels: usize = decoding.map(|frames| frames.unwrap().rgb().len()).sum();
        (pixels, sampled.latents)
    });
    assert!(pixels > 0);
    (latents.flatten_all().unwrap().to_vec1().unwrap(), most, plan)
}

#[test]
fn a_limit_is_kept_and_changes_no_number() {
    let _alone = alone();
    let (latents, most, plan) = latents_and_most(None);
    assert!(plan.choices.is_empty(), "{:?}", plan.choices);
    for share in [70, 50, 40] {
        let bytes = most * share / 100;
        let (limited, held, plan) = latents_and_most(Some(bytes));
        println!("{share} %: {held} of {bytes}, {:?}", plan.choices);
        assert_eq!(limited, latents);
        assert!(!plan.choices.is_empty());
        assert!(held <= bytes + MIB, "{held} bytes held, {bytes} were allowed: {:?}", plan.choices);
    }
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_loaded() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    TinyModel::t2v().middling().write(folder.path()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).plugin::<Linked>().build().unwrap();
    let model = engine.open(folder.path()).unwrap();
    let request = request().size(256, 256).frame_num(161);
    let request = limited(Request { latents_only: Some(true), ..request }, 40 << 20);
    let settings = model.settle(&request).unwrap();
    let idle = allocator::begin();
    let error = model.fit(settings).err().unwrap().to_string();
    assert!(allocator::most() - idle < 2 << 20, "something was loaded");
    for fact in ["`max_memory`", "MiB", "would fit"] {
        assert!(error.contains(fact), "{error}");
    }
}

/// Memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}
