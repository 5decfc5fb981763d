//! Models as they are downloaded: the publications' folders, GGUF repositories', ComfyUI's
//! `models`, and what `wan.toml` names.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::json;
use wan_host::Checkpoint;
use wan_model::inspect::{Network, known};
use wan_tests::tiny_model::TinyModel;

use crate::latents::LatentsBench;
use crate::model_folders::{Shapes, sparse};
use crate::support::{done, error_text, wan};

const UMT5: &str = "umt5-xxl";
const CLIP: &str = "clip-vit-h-14";

/// A folder with files of published networks, their numbers left out.
struct Downloaded(tempfile::TempDir);

impl Downloaded {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, id) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            sparse(&path, &tensors(id));
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Checkpoint {
        Checkpoint::open(self.0.path()).unwrap()
    }

    /// Part and file of all that is found.
    fn found(&self) -> Vec<(String, String)> {
        let checkpoint = self.open();
        let name = |file: &Path| file.strip_prefix(self.0.path()).unwrap().display().to_string();
        let parts = checkpoint.parts().iter();
        parts.map(|(part, files)| (part.clone(), name(&files[0]))).collect()
    }

    /// What is said of a part that cannot be had.
    fn refused(&self, part: &str) -> String {
        match Checkpoint::open(self.0.path()) {
            Ok(checkpoint) => checkpoint.weights(part).map(drop).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }
}

fn tensors(id: &str) -> Shapes {
    known().iter().find(|known| known.id == id).unwrap().network.tensors()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(part, file)| (part.to_string(), file.to_string())).collect()
}

#[test]
fn the_publications_folders_work_as_they_are_downloaded() {
    let encoders = [("models_t5_umt5-xxl-enc-bf16.pth", UMT5), ("Wan2.1_VAE.pth", "vae-2.1")];
    let one = [("diffusion_pytorch_model.safetensors", "t2v-1.3B")];
    let folder = Downloaded::of(&[&encoders[..], &one].concat());
    let vae_and_t5 =
        [("text_encoder", encoders[0].0), ("transformer", one[0].0), ("vae", encoders[1].0)];
    assert_eq!(folder.found(), pairs(&vae_and_t5));
    for part in ["transformer", "vae", "text_encoder"] {
        assert!(folder.open().network(part).is_ok(), "{part}");
    }

    // Two experts: the publication's folders, and QuantStack's.
    for [high, low] in [
        ["high_noise_model/d.safetensors", "low_noise_model/d.safetensors"],
        ["HighNoise/a-HighNoise-Q4_K_M.gguf", "LowNoise/a-LowNoise-Q4_K_M.gguf"],
    ] {
        let experts = [(high, "t2v-A14B"), (low, "t2v-A14B")];
        let folder = Downloaded::of(&[&encoders[..], &experts].concat());
        assert_eq!(folder.open().experts().len(), 2);
        assert!(folder.found().contains(&("transformer".into(), high.into())), "{high}");
        assert!(folder.found().contains(&("transformer_2".into(), low.into())), "{low}");
    }
}

#[test]
fn a_shard_that_is_missing_is_named_by_its_index() {
    let folder = Downloaded::of(&[("m-00001-of-00002.safetensors", "t2v-1.3B")]);
    let map: serde_json::Map<_, _> = tensors("t2v-1.3B")
        .keys()
        .map(|name| (name.clone(), json!("m-00001-of-00002.safetensors")))
        .collect();
    let mut map = serde_json::Value::from(map);
    map["blocks.0.scale_shift_table"] = json!("m-00002-of-00002.safetensors");
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    for name in ["m.safetensors.index.json", "transformer/m.safetensors.index.json"] {
        fs::create_dir_all(folder.path("transformer")).unwrap();
        fs::write(folder.path(name), &index).unwrap();
        let said = folder.refused("transformer");
        assert!(said.contains("m-0000") && said.contains("-of-00002.safetensors"), "{said}");
    }
}

#[test]
fn comfyuis_models_are_found_by_what_is_in_them() {
    let high = "diffusion_models/wan/wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors";
    let low = "diffusion_models/wan/wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors";
    let folder = Downloaded::of(&[
        (low, "t2v-A14B"),
        (high, "t2v-A14B"),
        ("text_encoders/umt5_xxl_fp16.safetensors", UMT5),
        // Of another kind, and so no text encoder.
        ("text_encoders/clip_vision_h.safetensors", CLIP),
        ("vae/wan_2.1_vae.safetensors", "vae-2.1"),
        ("vae/wan2.2_vae.safetensors", "vae-2.2"),
        ("clip_vision/one.safetensors", CLIP),
        ("clip_vision/other.safetensors", CLIP),
    ]);
    fs::write(folder.path("vae/ae.safetensors"), "version https://git-lfs").unwrap();
    fs::write(folder.path("diffusion_models/notes.txt"), "none").unwrap();
    let expected = [
        ("text_encoder", "text_encoders/umt5_xxl_fp16.safetensors"),
        ("transformer", high),
        ("transformer_2", low),
        ("vae", "vae/wan_2.1_vae.safetensors"),
    ];
    assert_eq!(folder.found(), pairs(&expected));
    // Only who needs it is told that there are two.
    let said = folder.refused("image_encoder");
    assert!(said.contains("clip_vision/one") && said.contains("clip_vision/other"), "{said}");
    assert!(said.contains("`image_encoder`"), "{said}");
}

#[test]
fn which_of_several_is_meant_has_to_be_said_and_wan_toml_can() {
    let folder = Downloaded::of(&[
        ("unet/a.safetensors", "t2v-1.3B"),
        ("unet/b.safetensors", "t2v-1.3B"),
        ("clip/one.safetensors", UMT5),
        ("vae/wan_2.1_vae.safetensors", "vae-2.1"),
    ]);
    let said = folder.refused("transformer");
    assert!(said.contains("unet/a.safetensors, unet/b.safetensors"), "{said}");
    assert!(said.contains("`transformer`"), "{said}");
    let named = [("transformer".to_string(), vec![folder.path("unet/b.safetensors")])];
    let opened = Checkpoint::open_with(folder.0.path(), named.clone().into(), None).unwrap();
    assert_eq!(opened.parts()["transformer"], named[0].1);

    fs::write(folder.path("wan.toml"), "[model]\ntransformer = 'unet/a.safetensors'").unwrap();
    assert_eq!(folder.found()[1], ("transformer".into(), "unet/a.safetensors".into()));
    // Flags go over it.
    let opened = Checkpoint::open_with(folder.0.path(), named.clone().into(), None).unwrap();
    assert_eq!(opened.parts()["transformer"], named[0].1);
    fs::write(folder.path("wan.toml"), "[model]\nunet = 'unet/a.safetensors'").unwrap();
    let said = folder.refused("transformer");
    assert!(said.contains("wan.toml") && said.contains("unet"), "{said}");
}

#[test]
fn a_broken_file_is_told_of_where_there_is_no_other() {
    let folder = Downloaded::of(&[("model.safetensors", "t2v-1.3B")]);
    fs::write(folder.path("Wan2.1_VAE.pth"), b"PK\x03\x04 and no more").unwrap();
    let said = folder.refused("vae");
    assert!(said.contains("Wan2.1_VAE.pth"), "{said}");
    sparse(&folder.path("vae.safetensors"), &tensors("vae-2.1"));
    assert!(folder.open().weights("vae").is_ok());
    let said = folder.refused("text_encoder");
    assert!(said.contains("no file with the weights of the text_encoder"), "{said}");
}

#[test]
fn a_file_of_all_networks_gives_each_part() {
    let folder = Downloaded::of(&[]);
    let mut all = Shapes::new();
    for (start, id) in [
        ("model.diffusion_model.", "t2v-1.3B"),
        ("vae.", "vae-2.1"),
        ("text_encoders.umt5xxl.transformer.", UMT5),
    ] {
        all.extend(tensors(id).into_iter().map(|(name, shape)| (format!("{start}{name}"), shape)));
    }
    sparse(&folder.path("all.safetensors"), &all);
    let checkpoint = folder.open();
    assert!(matches!(checkpoint.network("transformer").unwrap(), Network::Transformer(_)));
    assert!(matches!(checkpoint.network("vae").unwrap(), Network::Vae(_)));
    assert!(matches!(checkpoint.network("text_encoder").unwrap(), Network::TextEncoder(_)));
}

const SMALL: [&str; 8] =
    ["--prompt", "a red ball", "--size", "64*64", "--frame_num", "5", "--sample_steps", "1"];

/// A tiny model in a bench, and flags of a small run of it.
fn tiny(model: &TinyModel, task: &'static str) -> (LatentsBench, PathBuf) {
    let bench = LatentsBench::new(&SMALL);
    let root = bench.folder().join("model");
    model.write(&root).unwrap();
    let root_text = root.display().to_string();
    (bench.with_flags(&["--ckpt_dir", &root_text, "--task", task]), root)
}

/// Gives the weight files of a folder a name of their own.
fn rename(folder: &Path, name: &str) {
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let own = file.file_name().unwrap().to_string_lossy().into_owned();
        if own.ends_with(".safetensors") {
            let renamed = own.replace("diffusion_pytorch_model", name);
            fs::rename(&file, file.with_file_name(renamed)).unwrap();
        }
    }
}

#[test]
fn names_that_say_another_half_of_the_noise_are_noticed() {
    let (bench, root) = tiny(&TinyModel::t2v_a14b(), "t2v-A14B");
    let said = |name: &str| {
        let (code, said) = bench.try_run(name, &[]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    assert!(!said("plain").contains("swapped"));
    rename(&root.join("transformer"), "wan_low_noise");
    let text = said("low");
    assert!(text.contains("wan_low_noise") && text.contains("are they swapped?"), "{text}");
    rename(&root.join("transformer_2"), "wan_high_noise");
    let text = said("both");
    assert!(text.contains("wan_high_noise") && text.contains("are they swapped?"), "{text}");

    let (bench, root) = tiny(&TinyModel::t2v(), "t2v-14B");
    rename(&root.join("transformer"), "wan_high_noise");
    let (_, text) = bench.try_run("one", &[]);
    assert!(text.contains("one of two experts; the other one goes to"), "{text}");
}

#[test]
fn the_text_encoders_file_may_have_the_tokenizer_and_only_encoding_needs_one() {
    let (bench, root) = tiny(&TinyModel::t2v(), "t2v-14B");
    let with_file = bench.run("file", &[]);
    let bytes = fs::read(root.join("tokenizer/tokenizer.json")).unwrap();
    fs::remove_dir_all(root.join("tokenizer")).unwrap();

    let (code, said) = bench.try_run("none", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("google/umt5-xxl") && said.contains("--tokenizer"), "{said}");
    let root_text = root.display().to_string();
    let flags = ["cache", "plan", "--ckpt_dir", &root_text, "--task", "t2v-14B"];
    let cache = ["--cache", "teacache", "--cache_option", "coefficients=[1,0]"];
    done(&[&flags[..], &SMALL, &cache].concat());

    let file = root.join("text_encoder/model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let length = bytes.len();
    tensors.insert("spiece_model".into(), Tensor::from_vec(bytes, length, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert_eq!(bench.run("tensor", &[]).bits(), with_file.bits());
}

#[test]
fn what_is_cut_off_a_prompt_is_said() {
    let bench = LatentsBench::new(&["--cache", "none", "--frame_num", "5", "--sample_steps", "1"]);
    let long = "a a a a a a a a a a a a a a a a a big red ball";
    let (_, said) = bench.try_run("prompt", &["--prompt", long]);
    assert!(said.contains("the prompt is longer than the 16 tokens"), "{said}");
    assert!(said.contains("big red ball"), "{said}");
    let negative = ["--prompt", "a red ball", "--negative_prompt", long];
    let (_, said) = bench.try_run("negative", &negative);
    assert!(said.contains("the negative prompt is longer than"), "{said}");
    let short = bench.try_run("short", &["--prompt", "a red ball"]).1;
    assert!(!short.contains("longer"), "{short}");
    // Cleaned as the published pipelines clean prompts.
    let entity = bench.run("entity", &["--prompt", "a big &#114;ed ball"]);
    assert_eq!(entity.bits(), bench.run("plain", &["--prompt", "a big red ball"]).bits());
    assert!(error_text(&wan(&["--version"])).is_empty());
}
