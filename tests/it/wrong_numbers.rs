//! Numbers that no video has, from wherever they come: the run stops, and says whose they are.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor as CandleTensor};
use serde_json::json;
use wan_host::{Cancel, DeviceChoice, Engine, Model, OnNan, Request, Sidecar, Turn};
use wan_outputs::Outputs;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Denoise, Evaluation, OptionSpec,
    Replaces, Result, Rule, SampleRequest, Sampler, Schedule, Step, Tensor, TensorOps,
};
use wan_tests::tiny_model::TinyModel;

use crate::demo::generate;
use crate::euler_steps;
use crate::misfits::with_changed;
use crate::support::{
    bits, choice, demo_folder, error_text, names_in, plugin_folder, wan, with_cache, with_sampler,
};
use crate::tiny_bench::Bench;

const WAYS: [&str; 5] = ["none", "nan", "same", "short", "hidden"];

/// Hidden states that a cache of this library was given, for its sampler.
static HIDDEN: Mutex<Option<Tensor>> = Mutex::new(None);

#[derive(serde::Deserialize)]
struct Options {
    gives: String,
}

/// Two rounds of Euler, and wrong numbers in the second.
struct Wrong {
    frames: u32,
    gives: String,
}

impl Sampler for Wrong {
    type Options = Options;
    const ID: &'static str = "wrong";
    const DOC: &'static str = "two steps, and wrong numbers in the second";

    fn options() -> Vec<OptionSpec> {
        vec![OptionSpec::choice("gives", &WAYS, "what the second step gives")]
    }

    fn new(Options { gives }: Options, request: &SampleRequest) -> Result<Self> {
        Ok(Self { frames: request.frames, gives })
    }

    fn schedule(&self) -> Result<Schedule> {
        Ok(euler_steps::schedule(self.frames, 2))
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let levels = &step.round.levels;
        if step.index > 0 && self.gives == "hidden" {
            let hidden = HIDDEN.lock().unwrap().take().expect("the cache was given one");
            return model.velocity(&hidden, levels);
        }
        let next = euler_steps::step(sample, levels, model, ops)?;
        if step.index == 0 || self.gives == "none" {
            return Ok(next);
        }
        if self.gives == "short" {
            return ops.narrow_frames(&next, 1, levels.len() - 1);
        }
        let mut numbers = ops.read(&next)?;
        let frame = numbers.len() / levels.len();
        if self.gives == "nan" {
            numbers[frame] = f32::NAN;
        } else {
            numbers[frame..2 * frame].fill(0.25);
        }
        ops.write_like(&next, &numbers)
    }
}

/// Reuses a residual with one number that is not finite.
struct WrongReuse(Option<Tensor>);

impl Cache for WrongReuse {
    type Options = wan_plugin_api::OptionValues;
    const ID: &'static str = "wrong-reuse";
    const DOC: &'static str = "keeps one number that is not finite";

    fn new(_: Self::Options, _: &CacheContext) -> Result<Self> {
        Ok(Self(None))
    }

    fn plan(&self) -> CachePlan {
        CachePlan {
            decides: DecisionPoint::BeforeBlocks,
            reads: Vec::new(),
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: true,
            bytes_max: 1 << 20,
            measures: Vec::new(),
            rule: Rule::default(),
        }
    }

    fn decide(&mut self, _: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        Ok(self.0.clone().map_or_else(Decision::compute, Decision::reuse))
    }

    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        *HIDDEN.lock().unwrap() = Some(computed.clone());
        let mut numbers = ops.read(computed)?;
        numbers[0] = f32::INFINITY;
        self.0 = Some(ops.write_like(computed, &numbers)?);
        Ok(())
    }
}

wan_plugin_api::plugin! { struct WrongOnes { samplers: [Wrong], caches: [WrongReuse] } }

fn model(folder: &std::path::Path) -> Model {
    let engine = Engine::builder().device(DeviceChoice::Cpu).plugin_dir(plugin_folder());
    engine.plugin::<WrongOnes>().build().unwrap().open(folder).unwrap()
}

fn request(gives: &str) -> Request {
    let request = Request::new("a big red ball moving right over a meadow").frame_num(9);
    with_sampler(request.cache("none"), choice(Wrong::ID, &[("gives", json!(gives))]))
}

#[test]
fn what_a_sampler_gives_is_checked_and_the_sampler_is_named() {
    let model = model(&demo_folder());
    assert_eq!(model.generate(&request("none")).unwrap().frames.frames(), 9);
    for (gives, expected) in [
        ("nan", "wrong: round 2 of 2: latent frame 1: 1 of "),
        ("same", "wrong: round 2 of 2: latent frame 1: all numbers are 0.25"),
        ("short", "wrong: round 2 of 2: a step of [1, "),
    ] {
        let error = model.generate(&request(gives)).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{gives}: {error}");
        assert_eq!(error.turn(), Turn::Strategy, "{gives}");
    }
    // Nor is the model asked about what are no latents.
    let request = request("hidden").cache(WrongReuse::ID);
    let error = model.generate(&request).unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("wrong: the model is asked about a tensor of shape [1, "), "{said}");
    assert!(said.ends_with("expected [1, C, F, H, W]"), "{said}");
    assert_eq!(error.turn(), Turn::Strategy);
}

#[test]
fn who_wants_to_go_on_is_warned_once_and_gets_the_video() {
    let model = model(&demo_folder());
    for gives in ["nan", "same"] {
        let request = Request { on_nan: Some(OnNan::Warn), ..request(gives) };
        let video = model.generate(&request).unwrap();
        assert_eq!(video.frames.frames(), 9);
        let warned = video.notices.iter().filter(|notice| notice.contains("round 2 of 2"));
        assert_eq!(warned.count(), 1, "{gives}: {:?}", video.notices);
    }
}

#[test]
fn the_rounds_before_a_failure_are_not_lost() {
    let model = model(&demo_folder());
    let settings = model.settle(&request("nan")).unwrap();
    let cancel = Cancel::default();
    let begin = || {
        let conditions = model.encode(&settings, &cancel).unwrap();
        model.run(&settings, conditions, &cancel).unwrap()
    };
    let mut run = begin();
    assert!(run.round().unwrap().is_some());
    let after_one = bits(&run.latents().unwrap());
    assert!(run.round().is_err());
    let kept = run.finish_early().unwrap();
    assert_eq!((bits(&kept.latents), &kept.ends_at), (after_one, &vec![0.5; 3]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept.latents.safetensors");
    let claim = Outputs::default().claim(&Sidecar::wanted_latents(&file, 0)).unwrap();
    model.sidecar(&settings, &kept).unwrap().save_latents(claim, &kept.latents).unwrap();
    let (read, report) = Sidecar::read_latents(&file).unwrap();
    assert_eq!((bits(&read), report.ends_at), (bits(&kept.latents), kept.ends_at));
    assert!(begin().finish_early().is_err(), "no round is done");
}

#[test]
fn latents_that_are_not_those_of_their_report_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    generate(&video, &["--frame_num", "5", "--sample_steps", "1", "--keep_latents"]);
    let latents = video.with_extension("latents.safetensors");
    let mut bytes = std::fs::read(&latents).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&latents, bytes).unwrap();
    let output = wan(&["decode", latents.to_str().unwrap()]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("latents_hash"), "{said}");
}

#[test]
fn what_a_cache_gives_is_checked_and_the_cache_is_named() {
    let request = with_cache(request("none"), choice(WrongReuse::ID, &[]));
    let error = model(&demo_folder()).generate(&request).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("wrong-reuse: round 2 of 2: latent frame 0: "), "{text}");
    assert_eq!(error.turn(), Turn::Strategy);
}

/// A tensor of each part of an image-to-video model, and what is said where a number of it is not
/// one.
const PARTS: [(&str, &str, &str); 5] = [
    ("transformer", "blocks.1.attn1.to_q.weight", "the first are those of block 1 of 2"),
    ("transformer", "patch_embedding.weight", "the first are those of the embedding"),
    ("transformer", "proj_out.weight", "the first are those of the head"),
    ("vae", "encoder.conv_in.bias", "the encoder of the VAE gave numbers that are not finite"),
    (
        "text_encoder",
        "encoder.final_layer_norm.weight",
        "the text encoder gave numbers that are not finite",
    ),
];

/// Makes one number of a tensor none, or all so large that what they are multiplied by overflows:
/// the first is seen when the tensor is read, the second when it is computed with.
fn damage(tensors: &mut HashMap<String, CandleTensor>, name: &str, overflows: bool) {
    let tensor = tensors[name].to_dtype(DType::F32).unwrap();
    let mut numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    if overflows {
        numbers.iter_mut().for_each(|number| *number = f32::MAX.copysign(*number));
    } else {
        numbers[0] = f32::NAN;
    }
    let damaged = CandleTensor::from_vec(numbers, tensor.shape(), &Device::Cpu).unwrap();
    tensors.insert(name.into(), damaged.to_dtype(tensors[name].dtype()).unwrap());
}

#[test]
fn what_a_model_gives_is_checked_and_the_part_is_named() {
    let bench = Bench::new(TinyModel::i2v(), &["--task", "i2v-14B", "--cache", "none"]);
    let picture = bench.picture("red", 250);
    for (part, name, expected) in PARTS {
        let check = || bench.unusable(&["--image", &picture], expected);
        with_changed(&bench, part, |tensors| damage(tensors, name, true), check);
        let read = format!("tensor `{name}` has a number that is not finite");
        let check = || bench.unusable(&["--image", &picture], &read);
        with_changed(&bench, part, |tensors| damage(tensors, name, false), check);
    }
}

#[test]
fn a_damaged_decoder_makes_no_black_video_and_the_latents_are_kept() {
    let bench = Bench::new(TinyModel::t2v(), &["--cache", "none"]);
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let decode = |tensors: &mut HashMap<_, _>| damage(tensors, "decoder.conv_out.weight", true);
    with_changed(&bench, "vae", decode, || {
        let root = bench.root();
        let small = [
            "--prompt",
            "a red ball",
            "--size",
            "64*64",
            "--frame_num",
            "5",
            "--sample_steps",
            "2",
        ];
        let files = ["--ckpt_dir", root.to_str().unwrap(), "--save_file", video.to_str().unwrap()];
        let output = wan(&[&["generate", "--cache", "none"], &small[..], &files[..]].concat());
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("the decoder of the VAE gave numbers that are not finite"), "{said}");
    });
    let kept: Vec<String> = names_in(folder.path()).into_iter().collect();
    assert_eq!(kept, ["out.run"]);
}
