//! Valid files of every kind, by the project's own writers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wan_cache_lab::Shared;
use wan_cache_lab::calibration::Calibration;
use wan_cache_lab::recording::{Recorder, Recording};
use wan_host::parts::RunContext;
use wan_host::{Cancel, Model, Request, Sidecar};
use wan_media::{VideoFrames, VideoTags, encode_mp4};
use wan_outputs::Outputs;
use wan_plugin_api::PluginDescription;

use crate::formats::Document;
use crate::kinds::{KINDS, Kind};
use crate::weight_seeds;
use crate::world::{MODEL, World};

/// Folder of the seeds, beside the model.
pub(crate) const SEEDS: &str = "seeds";

/// Folder of files that are refused, beside the seeds.
const REFUSED: &str = "refused";

/// Files that are kept: of each kind, in a folder of its name.
pub(crate) const CORPUS: &str = "tests/corpus";

/// Steps of the recording: with one less there would be too few for a calibration.
pub(crate) const RECORDED_STEPS: u32 = 8;

/// Strategies of a description.
const DESCRIBED: usize = 2;

/// A file to begin with.
pub(crate) struct Seed {
    pub(crate) bytes: Vec<u8>,
    /// Its document, if it has one.
    pub(crate) document: Option<Document>,
    /// Whether it has to be accepted: what is kept in the corpus was damaged once,
    /// and some cases of weights are made to be refused.
    pub(crate) is_valid: bool,
}

/// The seeds of a kind.
pub(crate) fn of(kind: &Kind, folder: &Path) -> Result<Vec<Seed>> {
    let kept = wan_tests::checkout::checkout().join(CORPUS);
    let mut seeds = Vec::new();
    let refused = folder.join(REFUSED);
    for (folder, is_valid) in [(folder.join(SEEDS), true), (refused, false), (kept, false)] {
        for path in files_in(&folder.join(kind.name))? {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            seeds.push(Seed { document: Document::of(kind.format, &bytes), bytes, is_valid });
        }
    }
    Ok(seeds)
}

/// The files of a folder, in order of name; none where there is no folder.
pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Writes seeds of all kinds into the folder of a world.
pub(crate) fn write(world: &World) -> Result<()> {
    let (folder, refused) = (world.folder.join(SEEDS), world.folder.join(REFUSED));
    for kind in KINDS {
        fs::create_dir_all(folder.join(kind.name))?;
        fs::create_dir_all(refused.join(kind.name))?;
        // What lies in the model's folder is a seed as it is.
        if kind.place.starts_with(MODEL) {
            fs::copy(world.folder.join(kind.place), folder.join(kind.name).join("a"))?;
        }
    }
    let model = world.model()?;
    write_run(model, &folder)?;
    write_recording(model, &folder)?;
    write_clips(&folder)?;
    write_pictures(&folder)?;
    write_weights(world, &folder)?;
    weight_seeds::write(&folder, &refused)?;
    write_texts(world, &folder)
}

fn request() -> Request {
    let request = Request { sampler: Some("euler".into()), ..Request::new("a red ball") };
    request.size(8, 8).frame_num(3).cache("none").base_seed(1)
}

fn write_run(model: &Model, folder: &Path) -> Result<()> {
    // Sides of less than 16 are none for the encoder of clips.
    let request_of_clip = request().size(16, 16).sample_steps(2).cache("easycache");
    let video = model.generate(&request_of_clip)?;
    let settings = model.settle(&request().sample_steps(2))?;
    let sampled = model.sample(&settings, &RunContext::default())?;
    let latents = Sidecar::wanted_latents(&folder.join("latents/a"), 0);
    let claim = Outputs::default().claim(&latents)?;
    model.sidecar(&settings, &sampled)?.save_latents(claim, &sampled.latents)?;
    video.save(folder.join("mp4/a.mp4"))?;
    fs::rename(folder.join("mp4/a.json"), folder.join("sidecar/a"))?;
    let job = Request { fps: Some(16.0), ..request().sample_steps(3).cache("forecast") };
    fs::write(folder.join("job/a"), serde_json::to_string(&job)?)?;
    fs::write(folder.join("job/b"), r#"{"task": "t2v-14B", "prompt": "x", "cache": "none"}"#)?;
    Ok(())
}

fn write_recording(model: &Model, folder: &Path) -> Result<()> {
    let settings = model.settle(&request().sample_steps(RECORDED_STEPS))?;
    let path = folder.join("recording/a");
    let claim = Outputs::default().claim(&Recorder::wanted(&path, 0))?;
    let recorder = Shared::new(Recorder::create(claim, &settings)?);
    let conditions = model.encode(&settings, &Cancel::default())?;
    let context = RunContext { witness: Some(recorder.for_run()), ..RunContext::default() };
    let run = model.run_in(&settings, conditions, &context)?;
    drop(context);
    run.finish_with(&mut |_| {})?;
    recorder.into_inner()?.finish()?;
    let mut calibration = serde_json::to_value(Calibration::of(&[Recording::open(&path)?])?)?;
    // Of random weights no fit is good enough.
    let coefficients = json!({ "coefficients": [1.0, -0.5, 0.25, 0.1, 0.01] });
    calibration["polynomials"] = json!({ "e": coefficients, "e0": coefficients });
    let ratios = |ratio: f64| vec![ratio; RECORDED_STEPS as usize];
    calibration["ratios"] = json!({ "cond": ratios(1.0), "uncond": ratios(0.99) });
    fs::write(folder.join("calibration/a"), calibration.to_string())?;
    Ok(())
}

fn write_clips(folder: &Path) -> Result<()> {
    let tone = |place: usize| u8::try_from(place * 7 % 256).unwrap_or(0);
    for (name, [width, height, frames]) in [("b.mp4", [16, 16, 1]), ("c.mp4", [48, 32, 20])] {
        let rgb = (0..width * height * frames * 3).map(tone).collect();
        let tags = VideoTags { title: "t".into(), comment: "c".into(), ..VideoTags::default() };
        let frames = VideoFrames::new(width, height, rgb)?;
        fs::write(folder.join("mp4").join(name), encode_mp4(&frames, 16.0, &tags)?)?;
    }
    Ok(())
}

fn write_pictures(folder: &Path) -> Result<()> {
    let tone = |x: u32, y: u32| u8::try_from((x * 37 + y * 91 + x * y * 13) % 251).unwrap_or(0);
    let rgb = image::RgbImage::from_fn(40, 24, |x, y| image::Rgb([tone(x, y), tone(y, x), 9]));
    let rgb = image::DynamicImage::from(rgb);
    for (kind, extension) in [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")] {
        let save = |name: &str, picture: &image::DynamicImage| {
            picture.save(folder.join(kind).join(name).with_extension(extension))
        };
        save("rgb", &rgb)?;
        save("grey", &rgb.to_luma8().into())?;
        if kind != "jpeg" {
            save("alpha", &rgb.to_rgba8().into())?;
        }
        if kind == "png" {
            save("deep", &rgb.to_rgba16().into())?;
        }
    }
    Ok(())
}

fn write_weights(world: &World, folder: &Path) -> Result<()> {
    let part = world.folder.join(MODEL).join("text_encoder/model.safetensors");
    fs::copy(part, folder.join("safetensors/text_encoder"))?;
    // Names that two shards have, 8-bit matrices with factors, and three matrices in one.
    let file = |tensors: Value, data: usize| {
        let header = tensors.to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![60; data][..]].concat()
    };
    let tensor = |dtype: &str, shape: &[usize], [from, to]: [usize; 2]| {
        let (dtype, shape) = (json!(dtype), json!(shape));
        json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] })
    };
    let scaled = json!({
        "scaled_fp8": tensor("F8_E4M3", &[0], [0, 0]),
        "blocks.0.self_attn.q.weight": tensor("F8_E4M3", &[4, 4], [0, 16]),
        "blocks.0.self_attn.q.scale_weight": tensor("F32", &[1], [16, 20]),
    });
    fs::write(folder.join("safetensors/scaled"), file(scaled, 20))?;
    let three = json!({
        "visual.transformer.0.attn.to_qkv.weight": tensor("F16", &[6, 2], [0, 24]),
        "visual.transformer.0.attn.to_qkv.bias": tensor("F32", &[6], [24, 48]),
    });
    fs::write(folder.join("safetensors/three"), file(three, 48))?;
    for shard in ["one", "two"] {
        let tensors = json!({ shard: tensor("F32", &[2], [0, 8]) });
        fs::write(world.folder.join(format!("{shard}.safetensors")), file(tensors, 8))?;
    }
    let index = json!({
        "metadata": { "total_size": 16 },
        "weight_map": { "one": "one.safetensors", "two": "two.safetensors" },
    });
    fs::write(folder.join("shards/a"), index.to_string())?;
    Ok(())
}

fn write_texts(world: &World, folder: &Path) -> Result<()> {
    let tokenizer = world.folder.join(MODEL).join("tokenizer/tokenizer.json");
    fs::copy(tokenizer, folder.join("tokenizer/words"))?;
    fs::write(folder.join("tokenizer/pieces"), unigram().to_string())?;
    let hash = "0f".repeat(32);
    fs::write(folder.join("allow-list/a"), format!("# mine\n{hash}  a.so\n{hash}\n"))?;
    let vit = wan_model::clip::ClipVisionConfig::vit_h_14();
    fs::write(folder.join("image-encoder/a"), serde_json::to_string(&vit)?)?;
    write_descriptions(world, folder)?;
    let run = json!({
        "key": "k", "prompt": "p", "candidate": "c", "evaluations": 4, "computed": 2,
        "reused_in_a_row": 1, "seconds": 0.5, "reference_seconds": 1.0,
        "quality": { "psnr": 30.0, "frame_psnr": [30.0], "frame_ssim": [0.9],
            "frame_ms_ssim": [0.9] },
        "decisions": { "cond": "Cs" }, "measured": [[0.1]], "velocity_errors": [0.1],
        "declared_bytes": 8, "held_bytes": 8, "picture": "a.png", "reference_picture": "b.png",
    });
    fs::write(folder.join("runs/a"), format!("{run}\n{run}\n"))?;
    Ok(())
}

/// Of a few strategies each: what is short is changed in more of its places.
fn write_descriptions(world: &World, folder: &Path) -> Result<()> {
    for (number, plugin) in world.engine.registry().plugins().enumerate() {
        let whole = &plugin.description;
        let samplers = whole.samplers.chunks(DESCRIBED).map(|s| (s.to_vec(), Vec::new()));
        let caches = whole.caches.chunks(DESCRIBED).map(|c| (Vec::new(), c.to_vec()));
        for (part, (samplers, caches)) in samplers.chain(caches).enumerate() {
            let description = PluginDescription { samplers, caches, ..whole.clone() };
            let path = folder.join("description").join(format!("{number}-{part}"));
            fs::write(path, serde_json::to_string(&description)?)?;
        }
    }
    Ok(())
}

/// A tokenizer of UMT5's kind: pieces with scores, spaces as marks.
fn unigram() -> Value {
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false })
    };
    let vocab = json!([
        ["<pad>", 0.0],
        ["</s>", 0.0],
        ["<unk>", 0.0],
        ["\u{2581}a", -2.0],
        ["\u{2581}", -3.0],
        ["red", -4.0],
        ["ball", -4.5],
        ["b", -6.0],
        ["l", -6.5]
    ]);
    json!({
        "version": "1.0", "decoder": { "type": "Metaspace", "replacement": "\u{2581}",
            "prepend_scheme": "always", "split": true },
        "truncation": { "direction": "Right", "max_length": 32, "strategy": "LongestFirst",
            "stride": 0 },
        "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>" },
        "added_tokens": [special(0, "<pad>"), special(1, "</s>"), special(2, "<unk>")],
        "normalizer": { "type": "Sequence", "normalizers": [{ "type": "NFKC" },
            { "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }] },
        "pre_tokenizer": { "type": "Metaspace", "replacement": "\u{2581}",
            "prepend_scheme": "always", "split": true },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "</s>", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } } },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false },
    })
}
