//! Folders of every family: planned as they run, pickles read, a boundary where none is written,
//! and the peak of memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use wan_model::inspect::{Network, known};
use wan_tests::tiny_model::TinyModel;

use crate::demo::generate;
use crate::latents::LatentsBench;
use crate::support::{done, error_text, sidecar, wan};

#[test]
fn every_family_can_be_planned() {
    for (model, task, flags) in [
        (TinyModel::t2v(), "t2v-14B", &[][..]),
        (TinyModel::i2v(), "i2v-14B", &["--image"]),
        (TinyModel::flf2v(), "flf2v-14B", &["--image", "--last_frame"]),
        (TinyModel::t2v_a14b(), "t2v-A14B", &[]),
        (TinyModel::ti2v_5b(), "ti2v-5B", &[]),
        (TinyModel::sky_df(), "df-1.3B", &["--image"]),
    ] {
        let bench = LatentsBench::new(&[]);
        let root = bench.folder().join("model");
        model.write(&root).unwrap();
        let picture = crate::pictures::file("wide_64x64");
        let given: Vec<&str> = flags.iter().flat_map(|flag| [*flag, picture.as_str()]).collect();
        let flags =
            ["--ckpt_dir", root.to_str().unwrap(), "--task", task, "--prompt", "a red ball"];
        let small = ["--negative_prompt", "a box", "--size", "64*64", "--frame_num", "9"];
        let cache = ["--sample_steps", "8", "--cache", "teacache", "--cache_option", "threshold=2"];
        let more = ["--cache_option", "coefficients=[1,0]", "--cache_option", "retention=1"];
        let flags = [&flags[..], &small, &cache, &more, &given].concat();
        let planned = serde_json::from_str::<Value>(&done(
            &[&["cache", "plan", "--json"], &flags[..]].concat(),
        ))
        .unwrap();
        let run = bench.run("run", &flags);
        let choices = |of: &[Value]| -> Vec<String> {
            of.iter().map(|e| format!("{} {}", e["branch"], e["choice"])).collect()
        };
        let planned = choices(planned["plan"]["evaluations"].as_array().unwrap());
        assert_eq!(planned, choices(run.evaluations()), "{task}");
        assert!(planned.iter().any(|d| d.contains("reuse")), "{task}: nothing is reused");
    }
}

#[test]
fn a_pickle_is_read_and_a_broken_one_is_refused_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("model");
    TinyModel::t2v().write(&root).unwrap();
    let flags = ["generate", "--ckpt_dir", root.to_str().unwrap(), "--task", "t2v-14B"];
    let small = ["--prompt", "a red ball", "--size", "64*64", "--frame_num", "5"];
    let flags = [&flags[..], &small, &["--sample_steps", "1", "--metadata", "none"]].concat();
    let made = |name: &str| {
        let video = folder.path().join(name);
        done(&[&flags[..], &["--save_file", video.to_str().unwrap()]].concat());
        fs::read(video).unwrap()
    };
    let before = made("before.mp4");
    let weights = root.join("vae/diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(&weights, &candle_core::Device::Cpu).unwrap();
    fs::remove_file(&weights).unwrap();
    let pickle = root.join("vae/Wan2.1_VAE.pth");
    crate::torch_files::write(&pickle, &tensors.into_iter().collect::<Vec<_>>());
    assert_eq!(made("after.mp4"), before);

    let bytes = fs::read(&pickle).unwrap();
    fs::write(&pickle, &bytes[..bytes.len() / 2]).unwrap();
    let output = wan(&flags);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("Wan2.1_VAE.pth") && !said.contains("safetensors"), "{said}");
}

#[test]
fn the_peak_of_memory_is_that_of_the_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    // Little to sample, much to decode.
    let flags = ["--size", "256*256", "--frame_num", "5", "--sample_steps", "1", "--cache", "none"];
    generate(&video, &flags);
    let other = folder.path().join("other.mp4");
    generate(&other, &[&flags[..], &["--latents_only"]].concat());
    let peak = |report: &Value| report["memory"]["peak_resident_bytes"].as_u64().unwrap();
    let before = crate::latents::Latents::read(&other.with_extension("latents.safetensors"));
    let (sampled, whole) = (peak(&before.report), peak(&sidecar(&video)));
    assert!(sampled > 10_000_000, "{sampled} bytes");
    assert!(whole > sampled + 5_000_000, "{whole} bytes, and {sampled} before decoding");
}

#[test]
fn without_a_boundary_of_its_own_a_pair_of_experts_has_the_published_one() {
    for (model, task, flags, boundary) in [
        (TinyModel::t2v_a14b(), "t2v-A14B", false, 875.0),
        (TinyModel::i2v_a14b(), "i2v-A14B", true, 900.0),
    ] {
        let bench = LatentsBench::new(&[]);
        let root = bench.folder().join("model");
        model.write(&root).unwrap();
        let index = root.join("model_index.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        value.as_object_mut().unwrap().remove("boundary_ratio");
        fs::write(&index, value.to_string()).unwrap();
        let picture = crate::pictures::file("wide_64x64");
        let given = if flags { vec!["--image", &picture] } else { vec![] };
        let model =
            ["--ckpt_dir", root.to_str().unwrap(), "--task", task, "--prompt", "a red ball"];
        let small = ["--negative_prompt", "a box", "--size", "64*64", "--frame_num", "5"];
        let small = [&small[..], &["--sample_steps", "2"]].concat();
        let run = bench.run("run", &[&model[..], &small, &given].concat());
        assert_eq!(run.report["model"]["boundary_timestep"], boundary, "{task}");
    }
}

/// Names and shapes of a network's tensors.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// A file with all tensors of a network, in bf16, and a hole where their numbers would be.
pub(crate) fn sparse(path: &Path, tensors: &Shapes) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [begin, end] });
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

#[test]
fn a_published_transformer_is_recognised_by_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transformer.safetensors");
    let transformers: Vec<(&str, Shapes)> = known()
        .iter()
        .filter(|known| matches!(known.network, Network::Transformer(_)))
        // A pair of experts has two files.
        .filter(|known| !known.id.contains("A14B"))
        .map(|known| (known.id, known.network.tensors()))
        .collect();
    assert!(transformers.len() >= 6);
    let (mut alone, mut several) = (0, 0);
    for (id, tensors) in &transformers {
        sparse(&path, tensors);
        let run = ["generate", "--transformer", path.to_str().unwrap(), "--prompt", "x"];
        let output = wan(&run);
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let alike = transformers.iter().filter(|(_, other)| other == tensors).count();
        if alike == 1 {
            alone += 1;
            assert!(said.starts_with(&format!("wan: this is {id} by its tensors\n")), "{said}");
            assert!(said.contains("no file with the weights of the"), "{said}");
        } else {
            several += 1;
            assert!(said.contains(id) && said.contains("say which with --task"), "{said}");
            assert_eq!(said.matches(" and ").count(), alike - 1, "{said}");
        }
        // Whatever it is, a task that is named says it.
        let said = error_text(&wan(&[&run[..], &["--task", *id]].concat()));
        assert!(!said.contains("by its tensors") && !said.contains("say which"), "{said}");
    }
    assert!(alone > 0 && several > 0, "{alone} alone, {several} in company");
}
