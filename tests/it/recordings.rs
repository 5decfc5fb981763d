//! Recordings and their replay: every number by another way from the tensors in the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use wan_cache_lab::recording::Recorder;
use wan_host::Request;

use crate::demo::generate;
use crate::spied::spy_folder;
use crate::support::{demo_model, done, error_text, refused, wan};

pub(crate) const SHORT: [&str; 4] = ["--sample_steps", "8", "--progress", "quiet"];

/// A recording as anybody can read it.
pub(crate) struct Recorded {
    pub(crate) contents: Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Recorded {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let contents = &header.metadata().as_ref().unwrap()["wan.recording"];
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
        let contents = serde_json::from_str(contents).unwrap();
        Self { contents, tensors: tensors.into_iter().collect() }
    }

    pub(crate) fn write(&self, path: &Path) {
        let metadata = [("wan.recording".to_string(), self.contents.to_string())].into();
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn count(&self) -> usize {
        self.contents["evaluations"].as_array().unwrap().len()
    }

    fn evaluation(&self, number: usize) -> &Value {
        &self.contents["evaluations"][number]
    }

    fn updates(&self, number: usize) -> Vec<bool> {
        let levels = self.evaluation(number)["levels"].as_array().unwrap().iter();
        levels.map(|level| level["update"].as_bool().unwrap()).collect()
    }

    /// Elements of each frame, in f64; `axis` is that of the frames.
    fn frames(&self, name: &str, axis: usize, frames: usize) -> Vec<Vec<f64>> {
        let tensor = &self.tensors[name];
        let per_frame = tensor.dims()[axis] / frames;
        let part = |frame: usize| {
            let part = tensor.narrow(axis, frame * per_frame, per_frame).unwrap();
            part.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
        };
        (0..frames).map(part).collect()
    }

    /// Frames of a branch's residual.
    fn residual(&self, number: usize, branch: &str) -> Vec<Vec<f64>> {
        let frames = self.updates(number).len();
        self.frames(&format!("{number:04}.{branch}.residual"), 1, frames)
    }

    /// Relative change of a time signal over the frames that move.
    pub(crate) fn signal_change(&self, number: usize, signal: &str) -> f64 {
        let row_of = |number: usize, frame: usize| -> Vec<f64> {
            let row = self.evaluation(number)["rows"][frame].as_u64().unwrap() as usize;
            let rows = &self.tensors[&format!("{number:04}.{signal}")];
            let row = rows.get(row).unwrap().flatten_all().unwrap();
            row.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
        };
        let (mut change, mut size) = (0.0, 0.0);
        for (frame, updated) in self.updates(number).into_iter().enumerate() {
            let (now, before) = (row_of(number, frame), row_of(number - 1, frame));
            if updated {
                change += now.iter().zip(&before).map(|(a, b)| (a - b).abs()).sum::<f64>();
                size += before.iter().map(|b| b.abs()).sum::<f64>();
            }
        }
        change / size
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1e-9)
}

fn relative(a: &[f64], b: &[f64]) -> f64 {
    let change = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
    change / b.iter().map(|b| b.abs()).sum::<f64>()
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A recording of a run that goes on from a clip: two clean frames in front, three that move.
pub(crate) fn extension(folder: &Path) -> PathBuf {
    let clip = folder.join("clip.mp4");
    generate(&clip, &["--frame_num", "9", "--sample_steps", "2", "--cache", "none"]);
    let out = folder.join("run.safetensors");
    let (clip, file) = (clip.to_str().unwrap(), out.to_str().unwrap());
    let flags = ["cache", "record", "--video", clip, "--context_frames", "5", "--frame_num", "17"];
    done(&[&flags[..], &SHORT, &["--out", file]].concat());
    out
}

#[test]
fn what_a_recording_takes_is_known_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    let flags = ["cache", "record", "--frame_num", "17", "--out", file.to_str().unwrap()];
    done(&[&flags[..], &SHORT].concat());
    let request = Request::new("a ball").frame_num(17).sample_steps(8).cache("none");
    let model = demo_model();
    let plan = model.plan(&model.settle(&request).unwrap()).unwrap();
    let (estimate, size) = (Recorder::estimated_bytes(&plan), fs::metadata(&file).unwrap().len());
    assert!(size <= estimate && estimate < size * 5 / 4, "{size} bytes, {estimate} by estimate");
}

#[test]
fn changes_in_a_recording_are_those_of_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Recorded::read(&extension(folder.path()));
    assert_eq!(recorded.count(), 8);
    for number in 0..8 {
        assert_eq!(recorded.updates(number), [false, false, true, true, true]);
        for (place, branch) in ["cond", "uncond"].into_iter().enumerate() {
            let said = |name: &str| -> Vec<f64> {
                let list = recorded.evaluation(number)["branches"][place][name].as_array();
                list.unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
            };
            let residual = recorded.residual(number, branch);
            let norms = said("residual_norm");
            for (frame, own) in residual.iter().enumerate() {
                assert!(near(norms[frame], norm(own)), "{number} {branch}: {norms:?}");
            }
            if number == 0 {
                assert!(said("residual_change").is_empty());
                continue;
            }
            let before = recorded.residual(number - 1, branch);
            let velocity =
                |number: usize| recorded.frames(&format!("{number:04}.{branch}.velocity"), 2, 5);
            let (now, earlier) = (velocity(number), velocity(number - 1));
            for frame in 0..5 {
                let (r, b) = (&residual[frame], &before[frame]);
                let product: f64 = r.iter().zip(b).map(|(r, b)| r * b).sum();
                let at = |name: &str| said(name)[frame];
                assert!(near(at("residual_ratio"), norm(r) / norm(b)));
                assert!(near(at("residual_cosine"), product / norm(r) / norm(b)));
                assert!(near(at("residual_change"), relative(r, b)));
                assert!(near(at("velocity_change"), relative(&now[frame], &earlier[frame])));
            }
        }
    }
}

#[test]
fn what_a_cache_reads_is_what_a_recording_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = extension(folder.path());
    let recorded = Recorded::read(&path);
    let plugins = spy_folder(folder.path());
    for (decides, reads) in [("before_blocks", "[1,2,3,4]"), ("after_block_0", "[1,2,3,4,5]")] {
        let log = folder.path().join("log.jsonl");
        let _ = fs::remove_file(&log);
        let document = folder.path().join("log.json");
        fs::write(&document, json!({ "path": log }).to_string()).unwrap();
        let clip = folder.path().join("clip.mp4");
        let flags = ["generate", "--video", clip.to_str().unwrap(), "--context_frames", "5"];
        let out = folder.path().join("out.mp4");
        let run = ["--frame_num", "17", "--latents_only", "--save_file", out.to_str().unwrap()];
        let options = [
            format!("reads={reads}"),
            format!("decides={decides}"),
            format!("log={}", document.display()),
        ];
        let options: Vec<&str> =
            options.iter().flat_map(|o| ["--cache_option", o.as_str()]).collect();
        let spy = ["--plugin_dir", plugins.to_str().unwrap(), "--cache", "spy"];
        done(&[&flags[..], &SHORT, &run, &spy, &options].concat());
        // Nothing is reused, so every evaluation is the recorded one.
        let text = fs::read_to_string(&log).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        for line in lines.filter(|line| line["event"] == "decide") {
            let number = line["index"].as_u64().unwrap() as usize;
            let branch = line["branch"].as_str().unwrap();
            let after_block = decides == "after_block_0";
            let name = |tensor: &str| format!("{number:04}.{branch}.{tensor}");
            let sums = |frames: Vec<Vec<f64>>| -> Vec<f64> {
                frames.iter().map(|f| f.iter().map(|x| x.abs()).sum()).collect()
            };
            let hidden = recorded.frames(&name("hidden"), 1, 5);
            let probe = recorded.frames(&name("probe"), 1, 5);
            let shown: Vec<Vec<f64>> = match after_block {
                true => hidden
                    .iter()
                    .zip(&probe)
                    .map(|(h, p)| h.iter().zip(p).map(|(h, p)| h + p).collect())
                    .collect(),
                false => hidden,
            };
            check(&line, "Hidden", &sums(shown));
            if after_block {
                check(&line, "Probe", &sums(probe));
            }
            let sample = recorded.frames(&format!("{number:04}.sample"), 2, 5);
            check(&line, "Sample", &sums(sample));
            for (signal, tensor) in [("TimeEmbedding", "e"), ("TimeProjection", "e0")] {
                let rows = &recorded.tensors[&format!("{number:04}.{tensor}")];
                let row = |frame: usize| {
                    let row = recorded.evaluation(number)["rows"][frame].as_u64().unwrap();
                    let row = rows.get(row as usize).unwrap().abs().unwrap();
                    row.to_dtype(DType::F64).unwrap().sum_all().unwrap().to_scalar().unwrap()
                };
                check(&line, signal, &(0..5).map(row).collect::<Vec<f64>>());
            }
        }
    }
}

fn check(line: &Value, signal: &str, expected: &[f64]) {
    let sums = line["signals"][signal].as_array().unwrap();
    assert_eq!(sums.len(), expected.len(), "{signal}");
    for (sum, expected) in sums.iter().zip(expected) {
        let sum = sum.as_f64().unwrap();
        assert!((sum - expected).abs() <= 1e-4 * expected, "{signal}: {sum} and {expected}");
    }
}

#[test]
fn a_replay_tells_how_wrong_each_reuse_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = extension(folder.path());
    let recorded = Recorded::read(&path);
    let plugins = spy_folder(folder.path());
    let base =
        ["cache", "replay", path.to_str().unwrap(), "--plugin_dir", plugins.to_str().unwrap()];
    let candidate = ["--candidate", "spy:reuse=[2,3,6],keep=2"];
    let text = done(&[&base[..], &candidate].concat());
    let json: Value =
        serde_json::from_str(&done(&[&base[..], &candidate, &["--json"]].concat())).unwrap();
    let replay = &json[0]["replay"];
    let mut means = Vec::new();
    for evaluation in replay["evaluations"].as_array().unwrap() {
        let number = evaluation["evaluation"].as_u64().unwrap() as usize;
        let branch = evaluation["branch"].as_str().unwrap();
        let Some(kept) = [(2, 1), (3, 1), (6, 5)].iter().find(|(at, _)| *at == number) else {
            assert_eq!(evaluation["choice"], "compute");
            assert_eq!(evaluation["error"], Value::Null);
            continue;
        };
        assert_eq!(evaluation["choice"], "reuse");
        let (now, old) = (recorded.residual(number, branch), recorded.residual(kept.1, branch));
        let errors: Vec<f64> = now.iter().zip(&old).map(|(now, old)| relative(old, now)).collect();
        for (said, error) in evaluation["errors"].as_array().unwrap().iter().zip(&errors) {
            assert!(near(said.as_f64().unwrap(), *error), "{number} {branch}");
        }
        // The clean frames in front do not count.
        let mean = errors[2..].iter().sum::<f64>() / 3.0;
        assert!(near(evaluation["error"].as_f64().unwrap(), mean), "{number} {branch}");
        means.push(mean);
    }
    assert_eq!(means.len(), 6);
    let (mean, worst) =
        (means.iter().sum::<f64>() / 6.0, means.iter().copied().fold(0.0, f64::max));
    assert!(near(replay["mean_error"].as_f64().unwrap(), mean));
    assert!(near(replay["worst_error"].as_f64().unwrap(), worst));
    assert_eq!(replay["saved"], 1.6);
    // Two residuals of five frames of 16 tokens of 192 in each of two branches.
    let held = 2 * 2 * 5 * 16 * 192 * 4;
    assert_eq!(replay["memory"]["held_max"], held);
    for line in ["    cond: CCssCCsC", "  uncond: CCssCCsC"] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    let summary = format!("mean {:.2} %, worst {:.2} %;", 100.0 * mean, 100.0 * worst);
    assert!(text.contains("1.60 times fewer evaluations") && text.contains(&summary), "{text}");
    // All but the first reused.
    let all = ["--candidate", "spy:reuse=[1,2,3,4,5,6,7]", "--json"];
    let json: Value = serde_json::from_str(&done(&[&base[..], &all].concat())).unwrap();
    assert_eq!(json[0]["replay"]["saved"], 8.0);
    let shared = ["--candidate", "spy:reuse=[2],shared=true,decides=before_embed,replaces=output"];
    done(&[&base[..], &shared].concat());
    refused(&[&base[..], &["--candidate", "steps=4"]].concat(), "name a cache");
}

#[test]
fn a_replay_of_one_branch_can_compute_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.safetensors");
    let flags = ["cache", "record", "--frame_num", "5", "--sample_guide_scale", "1", "--out"];
    done(&[&flags[..], &[out.to_str().unwrap()], &SHORT].concat());
    let plugins = spy_folder(folder.path());
    let flags = ["cache", "replay", out.to_str().unwrap(), "--plugin_dir"];
    let all = [plugins.to_str().unwrap(), "--candidate", "spy:reuse=[1,2,3,4,5,6,7]", "--json"];
    let json: Value = serde_json::from_str(&done(&[&flags[..], &all].concat())).unwrap();
    assert_eq!(json[0]["replay"]["saved"], 8.0);
}

#[test]
fn recording_tells_its_phases() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run.safetensors");
    let flags = ["cache", "record", "--frame_num", "5", "--sample_steps", "2", "--out"];
    let output = wan(&[&flags[..], &[out.to_str().unwrap()]].concat());
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for phase in ["load", "record"] {
        assert!(said.lines().any(|l| l.starts_with(&format!("{phase}: "))), "{said}");
    }
}
