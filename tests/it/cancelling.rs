//! A cancel is obeyed within one block or layer of a network, whichever is at work: counted, not
//! timed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wan_host::{Cancel, DeviceChoice, Engine, Error, Model, Request, Result};
use wan_media::VideoFrames;
use wan_tests::tiny_model::TinyModel;

use crate::support::{passes_alone_and_in_silence, short_request};

/// The spans that `wan-model` opens around its blocks and layers.
const BLOCKS_AND_LAYERS: [&str; 4] = ["text_layer", "image_layer", "vae_layer", "block"];

/// Blocks and layers of a run in the order in which they began, and when it is to be cancelled.
#[derive(Default)]
struct Course {
    begun: Vec<&'static str>,
    /// Once so many have begun, and within the last of them.
    cancel_at: usize,
    cancel: Cancel,
}

static COURSE: Mutex<Option<Course>> = Mutex::new(None);

/// Writes down what begins, and cancels.
struct Watching;

impl Subscriber for Watching {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        BLOCKS_AND_LAYERS.contains(&metadata.name())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if let Some(course) = &mut *COURSE.lock().unwrap() {
            course.begun.push(attributes.metadata().name());
            if course.begun.len() == course.cancel_at {
                course.cancel.cancel();
            }
        }
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Encodes, samples and decodes.
fn generate(model: &Model, request: &Request, cancel: &Cancel) -> Result<VideoFrames> {
    let settings = model.settle(request)?;
    let conditions = model.encode(&settings, cancel)?;
    let sampled = model.run(&settings, conditions, cancel)?.finish_with(&mut |_| {})?;
    model.decode(&settings, &sampled.latents, cancel)?.collect_frames()
}

/// Runs a request that is cancelled within block or layer `cancel_at`, counted from 1; what began,
/// and how it ended.
fn run(
    model: &Model,
    request: &Request,
    cancel_at: usize,
) -> (Vec<&'static str>, Result<VideoFrames>) {
    let cancel = Cancel::default();
    let course = Course { cancel_at, cancel: cancel.clone(), ..Course::default() };
    *COURSE.lock().unwrap() = Some(course);
    let outcome = generate(model, request, &cancel);
    (COURSE.lock().unwrap().take().unwrap().begun, outcome)
}

#[test]
fn not_one_more_block_or_layer_begins_after_a_cancel() {
    passes_alone_and_in_silence("cancelling::within_every_network");
}

#[test]
#[ignore = "a process of its own, for the subscriber is the process's; the test above starts it"]
fn within_every_network() {
    tracing::subscriber::set_global_default(Watching).unwrap();
    let folder = tempfile::tempdir().unwrap();
    TinyModel::flf2v().write(folder.path()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu);
    let model = engine.build().unwrap().open(folder.path()).unwrap();
    let picture = VideoFrames::new(64, 64, (0..64 * 64 * 3).map(|n| (n % 251) as u8).collect());
    let picture = picture.unwrap();
    let request = Request {
        last_frame: Some(picture.clone().into()),
        ..short_request().frame_num(5).sample_steps(2).image(picture)
    };

    let (whole, outcome) = run(&model, &request, usize::MAX);
    assert_eq!(outcome.unwrap().frames(), 5);
    let mut counts = BTreeMap::new();
    for name in &whole {
        *counts.entry(*name).or_insert(0) += 1;
    }
    // Two prompts together through one layer; the last but one of two; two steps, two branches, two
    // blocks; two chunks through the VAE's layers, of which the encoder has 10 and the decoder 14.
    let expected =
        [("text_layer", 1), ("image_layer", 1), ("block", 8), ("vae_layer", 2 * (10 + 14))];
    assert_eq!(counts, BTreeMap::from(expected));

    // After the very last there is nothing to stop.
    for place in 0..whole.len() - 1 {
        let (begun, outcome) = run(&model, &request, place + 1);
        assert!(matches!(outcome, Err(Error::Cancelled)), "at {place}: {:?}", outcome.err());
        assert_eq!(begun, whole[..=place], "went on after a cancel within {}", whole[place]);
    }
}
