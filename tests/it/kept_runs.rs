//! A run through its folder, by the library: every sampler and cache, and what is written.

use std::path::Path;

use serde_json::{Value, json};
use wan_host::parts::{Kind, RunContext};
use wan_host::{
    Cancel, CheckpointEvery, Ended, KeptRun, Model, Recipe, Request, Run, Sampled, Settings,
};

use crate::support::{choice, demo_model, short_request, with_cache, with_sampler};

/// A long video by windows, with a cache.
fn by_windows(frames: usize) -> Request {
    let options = [("base_num_frames", json!(9)), ("overlap_history", json!(5))];
    let cache = choice("teacache", &[("threshold", json!(0.3)), ("retention", json!(1))]);
    let request = short_request().frame_num(frames).sample_steps(3);
    with_cache(with_sampler(request, choice("diffusion-forcing", &options)), cache)
}

/// Does so many rounds, or all that are left, with a checkpoint after each.
fn go_on(model: &Model, settings: &Settings, folder: &Path, rounds: usize) -> (Run, Ended) {
    let kept = if folder.exists() {
        KeptRun::open(folder).unwrap()
    } else {
        KeptRun::create(folder, Recipe::of(model, settings, Value::Null)).unwrap()
    };
    let cancel = Cancel::default();
    let conditions = model.encode(settings, &cancel).unwrap();
    let hash = conditions.hash().unwrap();
    kept.check_conditions(&hash).unwrap();
    let mut run = match kept.state() {
        Some(state) => model.resume(settings, conditions, &cancel, state).unwrap(),
        None => model.run(settings, conditions, &cancel).unwrap(),
    };
    let mut keeper = kept.keep(CheckpointEvery::Round, hash, Vec::new()).unwrap();
    for _ in 0..rounds {
        let done = run.round().unwrap();
        keeper.hand_out(run.hand_out().unwrap()).unwrap();
        if done.is_none() {
            break;
        }
        keeper.checkpoint(run.state().unwrap()).unwrap();
    }
    (run, keeper.end().unwrap())
}

/// What the sidecar says of a run that is in its folder.
fn sidecar(model: &Model, settings: &Settings, sampled: &Sampled, ended: &Ended) -> Value {
    let (records, latents) = (ended.records().unwrap(), ended.latents());
    let sidecar = model.sidecar_of(settings, sampled, &records, latents.hash().unwrap());
    let mut sidecar = serde_json::to_value(sidecar).unwrap();
    sidecar["memory"]["peak_resident_bytes"] = Value::Null;
    sidecar["memory"]["weights"] = Value::Null;
    sidecar
}

/// A run that is dropped in the middle and gone on with from its folder ends as one that is not.
fn goes_on(model: &Model, request: &Request, rounds: usize) {
    let settings = model.settle(request).unwrap();
    let whole = model.sample(&settings, &RunContext::default()).unwrap();
    let whole = {
        let mut sidecar = serde_json::to_value(model.sidecar(&settings, &whole).unwrap()).unwrap();
        sidecar["memory"]["peak_resident_bytes"] = Value::Null;
        sidecar["memory"]["weights"] = Value::Null;
        sidecar
    };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("a.run");
    drop(go_on(model, &settings, &folder, rounds));
    let (run, ended) = go_on(model, &settings, &folder, usize::MAX);
    let sampled = run.finish().unwrap();
    assert_eq!(sidecar(model, &settings, &sampled, &ended), whole, "{request:?}");
    assert!(ended.kept.remove().unwrap().is_empty());
    assert!(!folder.exists());
}

#[test]
fn every_sampler_goes_on_from_its_folder() {
    let model = demo_model();
    let registry = model.engine().registry();
    let samplers: Vec<String> = registry.strategies(Kind::Sampler).map(|s| s.id.clone()).collect();
    assert!(samplers.len() >= 12, "{samplers:?}");
    for id in samplers {
        let request = short_request().frame_num(5).sampler(id);
        goes_on(&model, &request, 3);
    }
}

#[test]
fn every_cache_goes_on_from_its_folder() {
    let model = demo_model();
    let registry = model.engine().registry();
    let caches: Vec<String> = registry.strategies(Kind::Cache).map(|s| s.id.clone()).collect();
    assert!(caches.len() >= 10, "{caches:?}");
    for id in caches {
        let options: &[(&str, Value)] = match id.as_str() {
            id if id.starts_with("magcache") => &[("table", json!("t2v-1.3b"))],
            _ => &[],
        };
        let request = with_cache(short_request().frame_num(5), choice(&id, options));
        goes_on(&model, &request, 4);
    }
    goes_on(&model, &by_windows(33), 7);
}

#[test]
fn what_is_written_grows_with_the_rounds_and_not_with_the_length() {
    let model = demo_model();
    let mut per_round = Vec::new();
    for frames in [33, 65, 129] {
        let settings = model.settle(&by_windows(frames)).unwrap();
        let place = tempfile::tempdir().unwrap();
        let (run, ended) = go_on(&model, &settings, &place.path().join("a.run"), usize::MAX);
        assert_eq!(ended.checkpoints as usize, run.rounds_done());
        per_round.push(ended.bytes as f64 / run.rounds_done() as f64);
    }
    // A round costs the same whether it is one of 24 or of 96.
    let most = per_round.iter().copied().fold(0.0, f64::max);
    assert!(per_round[2] < 1.05 * per_round[0] && most < 200_000.0, "{per_round:?}");
}
