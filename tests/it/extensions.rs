//! What came after the epoch was frozen: extensions of caches, samplers and the host's operations.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor as CandleTensor};
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use wan_host::parts::{HostOps, Item, Kind, Noise, Registry};
use wan_host::{Cancel, Model, Request};
use wan_plugin_api::extensions::{BLOCK_DECISIONS, STATE};
use wan_plugin_api::library::SamplerInstance;
use wan_plugin_api::manifest::{FLAVOUR_C, FLAVOUR_RUST};
use wan_plugin_api::{
    Attention, Denoise, Error, ErrorKind, FrameLevel, Message, OptionValues, Result, Round,
    SampleRequest, Step, Tensor, TensorOps,
};

use crate::plugin_door::context;
use crate::support::{error_text, extended_models, fixture, registry, short_request, wan};

#[test]
fn a_cache_that_does_not_know_an_extension_says_so() {
    let chosen = registry().choose(Kind::Cache, "teacache", &OptionValues::new()).unwrap();
    assert_eq!(chosen.strategy.extensions, [STATE]);
    let (ops, _) = host(false);
    let mut older = chosen.cache(&context(4)).unwrap();
    let error = older.extension(BLOCK_DECISIONS, Message::default(), &ops).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[test]
fn a_run_that_cannot_be_saved_says_so_once_and_at_its_start() {
    let expected =
        format!("block-scoped does not answer {STATE}: a run with it cannot be saved and resumed");
    for (_, model) in extended_models() {
        check_says_so_once(&model, &expected);
    }

    let folder = tempfile::tempdir().unwrap();
    let (plugins, video) = (folder.path().join("plugins"), folder.path().join("out.mp4"));
    std::fs::create_dir(&plugins).unwrap();
    let library = fixture("extension");
    std::fs::copy(&library, plugins.join(library.file_name().unwrap())).unwrap();
    let base = ["generate", "--progress", "json", "--save_file", video.to_str().unwrap()];
    let short = ["--frame_num", "5", "--sample_steps", "2", "--cache", "block-scoped"];
    let plugin_dir = ["--plugin_dir", plugins.to_str().unwrap()];
    let output = wan(&[&base[..], &short, &plugin_dir].concat());
    let said = error_text(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches(&expected).count(), 1, "{said}");
    let denoise = said.find(r#""phase":"denoise""#).unwrap();
    assert!(said.find(&expected).unwrap() < denoise, "{said}");
}

fn check_says_so_once(model: &Model, expected: &str) {
    let cancel = Cancel::default();
    let begin = |request: &Request| {
        let settings = model.settle(request).unwrap();
        let conditions = model.encode(&settings, &cancel).unwrap();
        model.run(&settings, conditions, &cancel).unwrap()
    };
    let mut whole = begin(&short_request().cache("teacache"));
    assert!(whole.notices().is_empty(), "{:?}", whole.notices());
    whole.state().unwrap();
    let request = short_request().sample_steps(2).cache("block-scoped");
    let mut run = begin(&request);
    assert_eq!(run.notices(), [expected]);
    assert_eq!(run.state().unwrap_err().to_string(), expected);
    assert_eq!(model.generate(&request).unwrap().notices, [expected]);
}

/// The flavours of the door.
const DOORS: [u32; 2] = [FLAVOUR_C, FLAVOUR_RUST];

/// The fixture's sampler at a flow shift of 3.
fn levels(door: u32) -> SamplerInstance {
    let mut registry = Registry::default();
    registry.prefer(door);
    registry.add_file(&fixture("extension")).unwrap();
    let chosen = registry.choose(Kind::Sampler, "levels", &OptionValues::new()).unwrap();
    assert!(chosen.strategy.extensions.iter().any(|id| id == "fixture.levels/1"));
    let request =
        SampleRequest { frames: 1, prefix_frames: 0, steps: 1, shift: 3.0, temporal_scale: 4 };
    chosen.sampler(&request).unwrap()
}

/// The host's operations, and a tensor of one frame.
fn host(cancelled: bool) -> (HostOps, Tensor) {
    let cancel = Cancel::default();
    if cancelled {
        cancel.cancel();
    }
    let ops = HostOps::new(Device::Cpu, Noise::new(0), cancel);
    let tensor = CandleTensor::from_slice(&[1f32, 2.0], (1, 2), &Device::Cpu).unwrap();
    let tensor = ops.wrap(Item::Sample, tensor, 0, 1).unwrap();
    (ops, tensor)
}

#[test]
fn a_sampler_answers_with_document_and_tensors_made_by_the_host() {
    for door in DOORS {
        let (ops, tensor) = host(false);
        let document = "[1, 0.5, 0]".to_string();
        let question = Message { document, tensors: vec![tensor.clone()] };
        let answer = levels(door).extension("fixture.levels/1", question, &ops).unwrap();
        let shifted: Vec<f64> = serde_json::from_str(&answer.document).unwrap();
        assert_eq!(shifted, [1.0, 0.75, 0.0]);
        let forms: Vec<_> = answer.tensors.iter().map(Tensor::form).collect();
        assert_eq!(forms, [tensor.form()]);
        assert_eq!(ops.read(&answer.tensors[0]).unwrap(), [2.0, 4.0]);
    }
}

struct NoModel;

impl Denoise for NoModel {
    fn velocity(&mut self, _: &Tensor, _: &[FrameLevel]) -> Result<Tensor> {
        Err(Error::failed("there is no model"))
    }
}

/// How a step of the fixture's sampler ends, which asks whether it was stopped and then for an
/// operation.
fn step(door: u32, cancelled: bool) -> Error {
    let (ops, sample) = host(cancelled);
    let levels_of_round = vec![FrameLevel::moving(0, 999.0, 1.0, 0.0)];
    let round =
        Round { levels: levels_of_round, attention: Attention::Bidirectional, evaluations: 1 };
    let step = Step { index: 0, evaluation: 0, evaluations_left: 1, round: &round };
    levels(door).step(&sample, &step, &mut NoModel, &ops).unwrap_err()
}

/// Keeps the lines of plugins.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "wan::plugin"
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |_: &Field, value: &dyn Debug| text += &format!("{value:?}"));
        self.0.lock().unwrap().push((*event.metadata().level(), text));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_line_that_a_step_logs_comes_with_its_level() {
    for door in DOORS {
        let lines = Lines::default();
        tracing::subscriber::with_default(lines.clone(), || step(door, true));
        let expected = "the sampler of the fixture takes a step".to_string();
        assert_eq!(*lines.0.lock().unwrap(), [(Level::INFO, expected)]);
    }
}

#[test]
fn a_step_hears_that_it_is_stopped_and_that_there_is_no_such_operation() {
    for door in DOORS {
        assert_eq!(step(door, true).kind, ErrorKind::Cancelled);
        let error = step(door, false);
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        assert!(error.message.contains("no extension fixture.operation/1"), "{error}");
    }
}
