//! A program that embeds the library: pixels in, pixels out, and nothing of its process is changed
//! or printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use serde_json::json;
use wan_host::{Cancel, DeviceChoice, Engine, Error, Model, Request, Turn};
use wan_media::{VideoFrames, psnr, read_video};
use wan_plugin_api::{
    Denoise, OptionSpec, Result, SampleRequest, Sampler, Schedule, Step, Tensor, TensorOps,
};

use crate::euler_steps;
use crate::support::{
    choice, demo_folder, passes_alone_and_in_silence, plugin_folder, with_cache, with_sampler,
};

/// What the panic of a strategy says.
const AS_TOLD: &str = "as the embedding program told it to";

#[derive(serde::Deserialize)]
struct Options {
    panics: bool,
}

/// One step from noise to the end, or a panic.
struct InProcess {
    frames: u32,
    panics: bool,
}

impl Sampler for InProcess {
    type Options = Options;
    const ID: &'static str = "in-process";
    const DOC: &'static str = "one step of a strategy that is linked into the program";

    fn options() -> Vec<OptionSpec> {
        vec![OptionSpec::bool("panics", false, "panic instead of a step")]
    }

    fn new(options: Options, request: &SampleRequest) -> Result<Self> {
        Ok(Self { frames: request.frames, panics: options.panics })
    }

    fn schedule(&self) -> Result<Schedule> {
        Ok(euler_steps::schedule(self.frames, 1))
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        assert!(!self.panics, "{AS_TOLD}");
        euler_steps::step(sample, &step.round.levels, model, ops)
    }
}

wan_plugin_api::plugin! { struct Linked { samplers: [InProcess], caches: [] } }

/// What belongs to the process, and to the program alone.
#[derive(Debug, PartialEq)]
struct OfTheProcess {
    environment: BTreeMap<OsString, OsString>,
    folder: PathBuf,
    /// Signals that are blocked, ignored and caught, as the system shows them; none elsewhere.
    signals: Vec<String>,
    has_subscriber: bool,
    panics_seen: usize,
}

/// Panics that the program's own hook has seen.
static PANICS: AtomicUsize = AtomicUsize::new(0);

impl OfTheProcess {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let of_signals =
            |line: &&str| ["SigBlk", "SigIgn", "SigCgt"].iter().any(|s| line.starts_with(s));
        let signals: Vec<String> = status.lines().filter(of_signals).map(String::from).collect();
        assert_eq!(signals.len(), if cfg!(target_os = "linux") { 3 } else { 0 }, "{status}");
        Self {
            environment: env::vars_os().collect(),
            folder: env::current_dir().unwrap(),
            signals,
            has_subscriber: tracing::dispatcher::has_been_set(),
            panics_seen: PANICS.load(Ordering::SeqCst),
        }
    }
}

#[test]
fn an_embedding_process_stays_as_it_was_and_nothing_is_printed() {
    passes_alone_and_in_silence("embedding::the_embedding_program");
}

#[test]
#[ignore = "a program of its own, which the test above starts"]
fn the_embedding_program() {
    panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        // Any other is a failure of this test.
        if !info.to_string().contains(AS_TOLD) {
            eprintln!("{info}");
        }
    }));
    let before = OfTheProcess::now();
    assert!(!before.has_subscriber && before.panics_seen == 0);

    let engine = Engine::builder().device(DeviceChoice::Cpu).plugin_dir(plugin_folder());
    let model = engine.plugin::<Linked>().build().unwrap().open(demo_folder()).unwrap();
    sets_a_picture_in_motion(&model);
    is_cancelled(&model);
    is_refused(&model);
    assert_eq!(OfTheProcess::now(), before);

    survives_a_panic(&model);
    assert_eq!(OfTheProcess::now(), OfTheProcess { panics_seen: 1, ..before });
    // The hook is still this program's.
    assert!(panic::catch_unwind(|| panic!("{AS_TOLD}")).is_err());
    assert_eq!(PANICS.load(Ordering::SeqCst), 2);
}

/// A short video of 9 frames, 64x64.
fn request() -> Request {
    Request::new("a big red ball moving right over a meadow").frame_num(9).sample_steps(8)
}

/// Makes a video, and another that begins with a picture of it; with a cache of a library, one that
/// is kept in memory and one that is written and read.
fn sets_a_picture_in_motion(model: &Model) {
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    let first = model.generate(&with_cache(request(), cache.clone())).unwrap();
    let picture = VideoFrames::new(64, 64, first.frames.frame(4).to_vec()).unwrap();

    let request = with_cache(request().frame_num(17).image(picture.clone()), cache);
    let settings = model.settle(&request).unwrap();
    let cancel = Cancel::default();
    let conditions = model.encode(&settings, &cancel).unwrap();
    let run = model.run(&settings, conditions, &cancel).unwrap();
    let mut rounds = Vec::new();
    let sampled = run.finish_with(&mut |round| rounds.push(round.done)).unwrap();
    assert_eq!(rounds, (1..=rounds.len()).collect::<Vec<_>>());
    assert!(sampled.records.iter().any(|r| r.choice == wan_plugin_api::Choice::Reuse));
    let decoding = model.decode(&settings, &sampled.latents, &cancel).unwrap();
    let frames = decoding.collect_frames().unwrap();
    assert_eq!((frames.frames(), frames.width(), frames.height()), (17, 64, 64));
    let same = psnr(picture.rgb(), frames.frame(0));
    assert!(same > 22.0, "the first frame is {same:.1} dB from the picture");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first.mp4");
    first.save(&file).unwrap();
    assert_eq!(read_video(&file).unwrap().frames(), 9);
}

fn is_cancelled(model: &Model) {
    let (settings, cancel) = (model.settle(&request()).unwrap(), Cancel::default());
    let conditions = model.encode(&settings, &cancel).unwrap();
    let mut run = model.run(&settings, conditions, &cancel).unwrap();
    assert_eq!(run.round().unwrap().unwrap().done, 1);
    cancel.cancel();
    assert!(matches!(run.round(), Err(Error::Cancelled)));
}

fn is_refused(model: &Model) {
    let error = model.settle(&request().sampler("no-such-sampler")).unwrap_err();
    assert_eq!(error.turn(), Turn::Caller, "{error}");
    assert!(error.to_string().contains("no-such-sampler"), "{error}");
}

/// A strategy of the program's own runs, and then panics.
fn survives_a_panic(model: &Model) {
    let linked = |panics: bool| {
        let request = request().frame_num(5).cache("none");
        with_sampler(request, choice(InProcess::ID, &[("panics", json!(panics))]))
    };
    assert_eq!(model.generate(&linked(false)).unwrap().frames.frames(), 5);
    let error = model.generate(&linked(true)).unwrap_err();
    assert_eq!(error.to_string(), format!("in-process: in-process panicked: {AS_TOLD}"));
}
