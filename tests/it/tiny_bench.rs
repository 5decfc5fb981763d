//! Runs of the program on tiny models, and what every one of them has to show.

use std::fs;
use std::path::PathBuf;

use candle_core::Tensor;
use serde_json::Value;
use wan_host::Sidecar;
use wan_media::{VideoFrames, picture};
use wan_tests::tiny_model::TinyModel;

use crate::command_line::{check_refused, check_unusable};
use crate::demo::{generate, play};

/// Width and height of the videos.
pub(crate) const SIDE: usize = 64;
const FRAMES: usize = 9;

/// A tiny model in a folder, with pictures beside it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    model: TinyModel,
    flags: Vec<String>,
}

impl Bench {
    /// Writes the model; every run of it is small and has these flags.
    pub(crate) fn new(model: TinyModel, flags: &[&str]) -> Self {
        let small = ["--size", "64*64", "--frame_num", "9", "--sample_steps", "4"];
        Self::sized(model, &small, flags)
    }

    pub(crate) fn sized(model: TinyModel, size: &[&str], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("model");
        model.write(&root).unwrap();
        let folder_flags = ["--ckpt_dir", root.to_str().unwrap()];
        // Words that the tokenizer knows: else they are named, in a line before the refusal.
        let prompts = ["--prompt", "a red ball", "--negative_prompt", "a blue box"];
        let flags = [&folder_flags[..], &prompts, size, flags]
            .concat()
            .into_iter()
            .map(String::from)
            .collect();
        Self { folder, model, flags }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// A picture: stripes, `shade` bright.
    pub(crate) fn picture(&self, name: &str, shade: u8) -> String {
        let path = self.folder.path().join(name).with_extension("png");
        // Wider than the video: it has to be fitted.
        let rgb = (0..96 * SIDE).flat_map(|pixel| [shade, (pixel % 96) as u8, 255 - shade]);
        let frame = VideoFrames::new(96, SIDE, rgb.collect()).unwrap();
        picture(&frame, 0).save(&path).unwrap();
        path.display().to_string()
    }

    pub(crate) fn run(&self, name: &str, flags: &[&str]) -> Run {
        let video = self.folder.path().join(name).with_extension("mp4");
        let common = self.flags.iter().map(String::as_str).collect::<Vec<_>>();
        generate(&video, &[&common[..], flags, &["--keep_latents"]].concat());
        let report = fs::read(video.with_extension("json")).unwrap();
        Run { video, report: serde_json::from_slice(&report).unwrap() }
    }

    pub(crate) fn refused(&self, flags: &[&str], expected: &str) {
        let common = self.flags.iter().map(String::as_str).collect::<Vec<_>>();
        check_refused(&[&common[..], flags].concat(), expected);
    }

    /// A file of the model cannot be used.
    pub(crate) fn unusable(&self, flags: &[&str], expected: &str) {
        let common = self.flags.iter().map(String::as_str).collect::<Vec<_>>();
        check_unusable(&[&common[..], flags].concat(), expected);
    }

    /// Hash of the latents of a run from a picture.
    pub(crate) fn with_picture_hash(&self, name: &str) -> String {
        self.run(name, &["--image", &self.picture("red", 250)]).hash()
    }

    /// Whether another part of the same shape gives other latents.
    pub(crate) fn part_matters(&self, part: &str, flags: &[&str]) -> bool {
        let before = self.run("before", flags).hash();
        self.model.write_weights(&self.root(), part, 1).unwrap();
        let after = self.run("after", flags).hash();
        self.model.write_weights(&self.root(), part, 0).unwrap();
        before != after
    }
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) video: PathBuf,
    pub(crate) report: Value,
}

impl Run {
    pub(crate) fn hash(&self) -> String {
        self.report["latents_hash"].as_str().unwrap().to_owned()
    }

    pub(crate) fn latents(&self) -> Tensor {
        Sidecar::read_latents(&self.video.with_extension("latents.safetensors")).unwrap().0
    }

    /// What the sidecar says of settings and defaults, by name.
    pub(crate) fn check(&self, facts: &[(&str, Value)]) {
        for (pointer, expected) in facts {
            let found = self.report.pointer(pointer);
            assert_eq!(found, Some(expected), "{pointer} of {}", self.report);
        }
    }

    /// The video plays and has all its frames, the latents are numbers, and no encoder is held
    /// while the transformers run.
    pub(crate) fn check_whole(&self) {
        let played = play(&self.video);
        assert_eq!((played.frames, played.rgb.len()), (FRAMES, FRAMES * SIDE * SIDE * 3));
        let latents = self.latents().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(latents.iter().all(|x| x.is_finite()));
        let memory = &self.report["memory"]["weights"];
        let parts = memory["parts"].as_object().unwrap();
        let bytes = |part: &str| parts.get(part).map_or(0, |bytes| bytes.as_u64().unwrap());
        let transformers = bytes("transformer") + bytes("transformer_2");
        let (text, image, vae) = (bytes("text_encoder"), bytes("image_encoder"), bytes("vae"));
        assert!(transformers > 0 && text > 0 && vae > 0, "{memory}");
        // Norms and biases of the VAE stay; its matrices come for their turn.
        let short = memory["held"].as_u64().unwrap() - transformers;
        assert!(short > 0 && short < vae, "{memory}");
        let most = (transformers.max(text).max(image) + short).max(vae);
        assert_eq!(memory["held_max"].as_u64(), Some(most), "{memory}");
    }
}
