//! The presets against what the references' own rules decided (`logs.json`, see
//! `tools/record_cache_logs`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use wan_plugin_api::options::complete;
use wan_plugin_api::{FrameLevel, OptionValues};

use super::*;
use crate::fixture::{context, moments, run};

#[derive(Deserialize)]
struct Logs {
    /// By mode, the signal of each timestep.
    rows: BTreeMap<String, BTreeMap<String, Vec<f32>>>,
    cases: Vec<Log>,
}

#[derive(Deserialize)]
struct Log {
    name: String,
    options: OptionValues,
    /// Of each evaluation, one per frame.
    timesteps: Vec<Vec<f64>>,
    decisions: String,
    /// The accumulated change after each decision.
    sums: Vec<f64>,
}

/// Agreement of the sums: the references take their means in f32, or round them to bf16.
const TOLERANCE: f64 = 1e-5;

#[test]
fn presets_decide_as_the_references_did() {
    let logs: Logs = serde_json::from_str(include_str!("logs.json")).unwrap();
    assert_eq!(logs.cases.len(), 14);
    for log in logs.cases {
        let values = complete("teacache", &TeaCacheOptions::specs(), &log.options).unwrap();
        let options = serde_json::from_value(json!(values)).unwrap();
        let cache = TeaCache::new(options, &context(log.timesteps.len() as u32)).unwrap();
        let level =
            |(frame, t): (usize, &f64)| FrameLevel::moving(frame as u32, *t, t / 1000.0, 0.0);
        let levels: Vec<Vec<FrameLevel>> =
            log.timesteps.iter().map(|row| row.iter().enumerate().map(level).collect()).collect();
        let rows = &logs.rows[log.options["mode"].as_str().unwrap()];
        let signal = |i: usize| -> Vec<f32> {
            log.timesteps[i].iter().flat_map(|t| rows[&format!("{t}")].clone()).collect()
        };
        let frames = log.timesteps[0].len();
        let outcome = run(cache, &moments(levels, signal, |_| vec![1.0; frames]));
        assert_eq!(outcome.decisions, log.decisions, "{}", log.name);
        for (index, (sum, measured)) in log.sums.iter().zip(&outcome.measured).enumerate() {
            let off = (sum - measured[3]).abs();
            assert!(off < TOLERANCE, "{} at {index}: {sum} and {}", log.name, measured[3]);
        }
    }
}

#[test]
fn the_logs_tell_the_presets_apart() {
    let logs: Value = serde_json::from_str(include_str!("logs.json")).unwrap();
    let decisions = |name: &str| -> String {
        let cases = logs["cases"].as_array().unwrap();
        let case = cases.iter().find(|c| c["name"] == name).unwrap();
        case["decisions"].as_str().unwrap().into()
    };
    // The prefix dilutes, as in ComfyUI-WanVideoWrapper issue 484, and the counter wraps halfway.
    assert_ne!(decisions("skyreels_e_sync"), decisions("skyreels_e_prefix"));
    assert_eq!(decisions("skyreels_e_sync").as_bytes()[10], b'C');
    assert_ne!(decisions("wanvideowrapper_e_sync"), decisions("wanvideowrapper_e_prefix"));
}
