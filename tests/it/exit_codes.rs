//! The exit codes of `docs/exit-codes.md`, each by commands that end with it. Those of signals are
//! in `wall.rs` and `whole_or_nothing.rs`; of a full disk and a full device, in `error.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use wan_tests::tiny_model::TinyModel;

use crate::support::{error_text, fixture, program};

/// What commands are run on.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        for model in ["sound", "cut", "config", "tokenizer", "settings", "index"] {
            TinyModel::t2v().write(&bench.path(model)).unwrap();
        }
        let weights = bench.part("cut", "transformer");
        let bytes = fs::read(&weights).unwrap();
        fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        fs::write(bench.part("config", "vae").with_file_name("config.json"), "{").unwrap();
        fs::write(bench.path("tokenizer/tokenizer/tokenizer.json"), "{").unwrap();
        fs::write(bench.path("settings/wan.toml"), "[generate]\nframes = 3\n").unwrap();
        fs::write(bench.path("index/model_index.json"), "{").unwrap();
        for name in ["picture.png", "clip.mp4", "old.json", "run.latents.safetensors", "job.json"] {
            fs::write(bench.path(name), "neither").unwrap();
        }
        fs::create_dir(bench.path("plugins")).unwrap();
        fs::copy(fixture("hostile"), bench.path("plugins/libhostile.so")).unwrap();
        fs::create_dir(bench.path("broken")).unwrap();
        fs::copy(fixture("not_a_plugin"), bench.path("broken/libbroken.so")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The weights of a part of a model.
    fn part(&self, model: &str, part: &str) -> PathBuf {
        let files = fs::read_dir(self.path(model).join(part)).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        files.find(|file| file.extension().is_some_and(|e| e == "safetensors")).unwrap()
    }

    /// Exit code and words of a command line; `@NAME` is a path in the folder.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let place = format!("{}/", self.folder.path().display());
        let words = line.split_whitespace().map(|word| word.replace('@', &place));
        let mut command = Command::new(program());
        command.args(words).current_dir(self.folder.path()).env("WAN_HOSTILE", "aborts");
        let output = command.output().unwrap();
        (output.status.code(), error_text(&output))
    }
}

/// What a small run of a small model needs.
const SMALL: &str = "--size 64*64 --frame_num 5 --sample_steps 2 --cache none --prompt ball \
                     --progress quiet";

/// Exit codes, commands, and a word that the error has. `generate` has the flags of a small run.
const TABLE: [(i32, &str, &str); 30] = [
    (0, "generate --ckpt_dir @sound --save_file @a.mp4", ""),
    (0, "--help", ""),
    (0, "generate --help", ""),
    (0, "--version", ""),
    (0, "plugins list", ""),
    (2, "", "Usage"),
    (2, "generate --promt x", "--prompt"),
    (2, "generate --ckpt_dir @sound --frame_num many", "--frame_num"),
    (2, "generate --ckpt_dir @sound --sampler unipcc", "unipc"),
    (2, "generate --ckpt_dir @nowhere", "nowhere"),
    (2, "generate --ckpt_dir @sound --vae @nowhere.safetensors", "nowhere.safetensors"),
    (2, "generate --ckpt_dir @sound --job @job.json", "job.json"),
    (2, "generate --ckpt_dir @sound --save_file @nowhere/a.mp4", "nowhere"),
    (2, "generate --ckpt_dir @sound --latents @run.latents.safetensors", "run.latents"),
    (2, "generate --reproduce @old.json", "old.json"),
    (2, "decode @run.latents.safetensors", "run.latents"),
    (2, "cache calibrate @clip.mp4 --out @c.json", "clip.mp4"),
    (2, "plugins list --plugin_dir @nowhere", "nowhere"),
    (2, "plugins check @nowhere.so", "nowhere.so"),
    (3, "generate --ckpt_dir @cut", ".safetensors"),
    (3, "generate --ckpt_dir @config", "config.json"),
    (3, "generate --ckpt_dir @tokenizer", "tokenizer.json"),
    (3, "generate --ckpt_dir @index", "model_index.json"),
    (3, "generate --ckpt_dir @settings", "wan.toml"),
    (3, "inspect @cut", ".safetensors"),
    (5, "plugins list --plugin_dir @broken", "libbroken.so"),
    (5, "plugins check @broken/libbroken.so", "libbroken.so"),
    (0, "plugins check @plugins/libhostile.so --only manifest", ""),
    (5, "plugins show @broken/libbroken.so", "libbroken.so"),
    (5, "generate --ckpt_dir @sound --plugin_dir @plugins --sampler hostile", "hostile: "),
];

#[test]
fn every_command_ends_with_the_code_of_the_table() {
    let bench = Bench::new();
    for (code, line, says) in TABLE {
        let small = if line.starts_with("generate --ckpt_dir") { SMALL } else { "" };
        // Given twice, a flag is refused for that.
        let given = |flag: &str| line.contains(flag);
        let words: Vec<&str> = small.split_whitespace().collect();
        let rest = words.chunks(2).filter(|pair| !given(pair[0])).flatten().copied();
        let whole = [line].into_iter().chain(rest).collect::<Vec<_>>().join(" ");
        let (found, said) = bench.run(&whole);
        assert_eq!(found, Some(code), "{whole}: {said}");
        assert!(said.contains(says), "{whole}: {says} in {said}");
        assert!(!said.contains("panicked"), "{whole}: {said}");
    }
}
