//! Which of two experts runs, and what their caches are told.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use wan_tests::tiny_model::TinyModel;

use crate::latents::LatentsBench;
use crate::spied::{bench, events, log, spying, strs};

/// A tiny model of two experts whose boundary is at this timestep.
fn two_experts(boundary: f64, flags: &[&str]) -> LatentsBench {
    let bench = bench(&[]);
    let root = bench.folder().join("model");
    TinyModel::t2v_a14b().write(&root).unwrap();
    let index = root.join("model_index.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    value["boundary_ratio"] = json!(boundary / 1000.0);
    fs::write(&index, value.to_string()).unwrap();
    let model =
        ["--ckpt_dir", root.to_str().unwrap(), "--task", "t2v-A14B", "--prompt", "a red ball"];
    let small = ["--negative_prompt", "a box", "--size", "64*64", "--frame_num", "17"];
    bench.with_flags(&[&model[..], &small, flags].concat())
}

fn expert_of_rounds(report: &Value) -> BTreeMap<u64, u64> {
    let evaluations = report["evaluations"].as_array().unwrap().iter();
    evaluations.map(|e| (e["round"].as_u64().unwrap(), e["expert"].as_u64().unwrap())).collect()
}

#[test]
fn at_the_very_boundary_the_first_expert_still_runs() {
    // Levels that are exact in binary: timesteps 1000, 875, 750, 500, 250.
    let sigmas = "sigmas=1,0.875,0.75,0.5,0.25,0";
    let euler = ["--sampler", "euler", "--sampler-option", sigmas, "--sample_steps", "5"];
    for (boundary, first_rounds) in [(875.0, 2), (875.5, 1), (874.5, 2), (750.0, 3), (1000.0, 1)] {
        let bench = two_experts(boundary, &euler);
        let spy = spying(&bench, &["reuse=1"]);
        let run = bench.run("run", &strs(&spy));
        let experts = expert_of_rounds(&run.report);
        let high = experts.values().filter(|expert| **expert == 0).count();
        assert_eq!((high, experts.len()), (first_rounds, 5), "boundary {boundary}");
        let used = &run.report["experts"];
        assert_eq!(used[0]["rounds"], first_rounds);
        assert_eq!(used[1]["rounds"], 5 - first_rounds);
        assert_eq!(used[0]["timestep_max"], 1000.0);
        assert_eq!(used[1]["timestep_min"], 250.0);
        // What each cache is told of its stream and of the other expert's.
        let log = log(&bench);
        let made = events(&log, "new");
        assert_eq!(made.len(), 8, "two experts, two branches, asked by the plan and by the run");
        for line in made {
            let context = &line["context"];
            let (own, before, after) = match context["expert"].as_u64().unwrap() {
                0 => (first_rounds, 0, 5 - first_rounds),
                _ => (5 - first_rounds, first_rounds, 0),
            };
            let said = ["evaluations", "evaluations_before", "evaluations_after", "experts"];
            let said = said.map(|name| context[name].as_u64().unwrap() as usize);
            assert_eq!(said, [own, before, after, 2], "boundary {boundary}");
        }
    }
}

#[test]
fn the_noisiest_moving_frame_decides_which_expert_runs() {
    // A wave: frames at different timesteps in one round, and frames that wait at the noisiest.
    let wave = ["--sampler", "diffusion-forcing", "--sample_steps", "6", "--ar_step", "5"];
    let bench = two_experts(875.0, &wave);
    let spy = spying(&bench, &["reuse=1"]);
    let run = bench.run("run", &strs(&spy));
    let experts = expert_of_rounds(&run.report);
    let log = log(&bench);
    let levels: Vec<&Value> = events(&log, "decide")
        .into_iter()
        .filter(|line| line["branch"] == "cond")
        .map(|line| &line["levels"])
        .collect();
    assert_eq!(levels.len(), experts.len());
    let (mut mixed, mut waiting) = (0, 0);
    let (mut highest, mut lowest) = ([0f64; 2], [1e9f64; 2]);
    for (round, levels) in levels.iter().enumerate() {
        let levels: Vec<(bool, f64)> = levels
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l[1].as_bool().unwrap(), l[2].as_f64().unwrap()))
            .collect();
        let moving = || levels.iter().filter(|(update, _)| *update).map(|(_, t)| *t);
        let noisiest = moving().fold(f64::MIN, f64::max);
        let expert = usize::from(noisiest < 875.0);
        assert_eq!(experts[&(round as u64)], expert as u64, "round {round}: {levels:?}");
        highest[expert] = highest[expert].max(noisiest);
        lowest[expert] = lowest[expert].min(noisiest);
        mixed += usize::from(expert == 0 && moving().any(|t| t < 875.0));
        waiting += usize::from(expert == 1 && levels.iter().any(|(_, t)| *t >= 875.0));
    }
    assert!(mixed > 0, "no round has moving frames on both sides of the boundary");
    assert!(waiting > 0, "no frame waits at a level of the other expert");
    for (expert, used) in run.report["experts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(used["timestep_max"], highest[expert]);
        assert_eq!(used["timestep_min"], lowest[expert]);
    }
}
